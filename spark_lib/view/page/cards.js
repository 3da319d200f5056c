// One response as a card, and its tokens in colours.

const MOST_TEXT = 20000; // characters of a response shown at first
const MOST_TOKENS = 1500;
const SURPRISE = [[0.9, "≥ 90 %"], [0.5, "50 – 90 %"], [0.1, "10 – 50 %"], [0.01, "1 – 10 %"], [0, "< 1 %"]];

// A mark by its shape as well as its colour: right ●, wrong ○, in between ◐, cut off ◇.
function shapeOf(reward, finished) {
  return !finished ? "cut" : reward >= data.right_at ? "right" : reward > 0 ? "part" : "wrong";
}

const SHAPES = { right: "right", wrong: "wrong", part: "partly right", cut: "cut off" };

function dot(reward, finished) {
  return el("span", { class: `dot ${shapeOf(reward, finished)}`, "aria-hidden": "true" });
}

// "surprise" class of a log-prob: 0 for a token that was almost certain.
function surpriseClass(logprob) {
  const p = Math.exp(logprob);
  return `s${SURPRISE.findIndex(([least]) => p >= least)}`;
}

// How hard a token was pushed, beside the hardest of the step: p1 … p4 up, n1 … n4 down.
function pushClass(push, most) {
  if (!push || !most) return "p0";
  return (push > 0 ? "p" : "n") + Math.max(1, Math.ceil((4 * Math.abs(push)) / most - 1e-9));
}

function tokenTitle(response, i) {
  const logprob = response.logprobs[i] ?? NaN, p = Math.exp(logprob), push = response.advantage * response.weight;
  return `log-prob ${minus(logprob.toFixed(3))} (p = ${p.toPrecision(3)})\n` +
    `advantage × weight ${signed(response.advantage, 3)} × ${response.weight.toPrecision(3)} = ` +
    `${signed(push * 1e4, 2)}e−4\n` +
    `pull on its own logit, × (1 − p): ${signed(push * (1 - p) * 1e4, 2)}e−4`;
}

function coloured(response, colour, most, all) {
  const body = el("div", { class: `said ${colour}`, dir: "auto" });
  if (colour === "plain" || !response.tokens) {
    body.textContent = visible(all ? response.text : response.text.slice(0, MOST_TEXT));
    return body;
  }
  const push = pushClass(response.advantage * response.weight, most);
  const count = all ? response.tokens.length : Math.min(MOST_TOKENS, response.tokens.length);
  for (let i = 0; i < count; i++) {
    const text = response.tokens[i];
    const span = el("span", { class: `t ${colour === "push" ? push : surpriseClass(response.logprobs[i])}` },
      visible(all ? text : text.slice(0, MOST_TEXT)));
    span.title = tokenTitle(response, i);
    body.append(span);
  }
  return body;
}

function tokenTable(response) {
  const push = response.advantage * response.weight;
  return rows(["token", "log-prob", "p", "advantage × weight", "× (1 − p)"],
    response.tokens.slice(0, MOST_TOKENS).map((token, i) => {
    const logprob = response.logprobs[i] ?? NaN, p = Math.exp(logprob);
    return [el("code", {}, visible(token).replace(/\n/g, "↵")), minus(logprob.toFixed(3)), p.toPrecision(3),
      signed(push * 1e4) + "e−4", signed(push * (1 - p) * 1e4) + "e−4"];
  }), { class: "numbers" });
}

// Something that is made when it is opened for the first time.
function opening(title, make) {
  return el("details", {
    ontoggle: ({ target }) => target.open && target.children.length === 1 && target.append(...[make()].flat()),
  }, el("summary", {}, title));
}

function verdictWord(response) {
  if (response.verdict === undefined) return null;
  return response.verdict === null ? "no verdict that can be read" : `says ${response.verdict}`;
}

// response: of the record, or a prediction. about: {id, title, word (in place of its mark's), chosen, uses (buttons)};
// colour: plain, logprob or push; most: the hardest push of the step.
function card(response, about, colour, most) {
  const shape = shapeOf(response.reward, response.finished);
  const long = response.text.length > MOST_TEXT || (colour !== "plain" &&
    (response.tokens?.length ?? 0) > MOST_TOKENS) ||
    (colour !== "plain" && response.tokens?.some((token) => token.length > MOST_TEXT));
  const body = el("div", {}, coloured(response, colour, most, false));
  const facts = [
    response.advantage !== undefined && el("span", { title: "how much better than its group, in deviations" },
      `advantage ${signed(response.advantage)}`),
    el("span", {}, plural(response.count ?? response.tokens.length, "token")),
    !response.finished && el("span", { class: "warn" }, "cut off"),
    verdictWord(response) && el("span", { class: response.verdict === null ? "warn" : null }, verdictWord(response)),
    response.truth !== undefined &&
      el("span", {}, `the verifier says ${response.truth >= data.right_at ? "right" : "wrong"}`),
    response.p_yes !== undefined && el("span", {}, `P(Yes) ${response.p_yes.toFixed(3)}`),
  ];
  const whole = response.tokens ? plural(response.tokens.length, "token") : plural(response.text.length, "character");
  return el("article", { class: `card${about.chosen ? " chosen" : ""}`, tabindex: "-1",
    id: about.id ? `r-${about.id}` : null, "aria-label": `${about.title ?? "response"}, ${SHAPES[shape]}` },
    el("header", {}, dot(response.reward, response.finished), el("strong", {}, about.word || SHAPES[shape]),
      response.reward > 0 && response.reward < 1 && el("span", {}, `reward ${response.reward.toFixed(2)}`),
      el("span", { class: "id" }, about.title ?? "")),
    body,
    long && el("button", { class: "more", onclick: (event) => { replace(body, coloured(response, colour, most, true));
      event.target.remove(); } }, `show all of it: ${whole}`),
    el("footer", {}, facts),
    about.uses?.length ? el("div", { class: "uses" }, el("span", {}, "became"), about.uses) : null,
    response.tokens && opening("tokens as a table", () => tokenTable(response)));
}

function legend(colour) {
  if (colour === "plain") return null;
  const patch = (name, text) => el("span", { class: "patch" }, el("span", { class: `t ${name}` }, " a "), text);
  if (colour === "logprob") {
    return el("p", { class: "legend" }, "Probability of each token when it was sampled:",
      SURPRISE.map(([, text], i) => patch(`s${i}`, text)));
  }
  return el("p", { class: "legend" }, "Advantage × weight, the same for every token of a response:",
    patch("n4", "made less likely"), patch("n2", ""), patch("p0", "not moved"), patch("p2", ""),
    patch("p4", "made more likely"),
    el("span", { class: "quiet" },
      "(the hardest push of the step is darkest; what was certain moves little all the same: last number on hover)"));
}
