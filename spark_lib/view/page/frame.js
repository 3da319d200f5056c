// The frame of every page: a head, and views that the address chooses.

function frame(title, facts, views, help) {
  const dialog = help && el("dialog", { "aria-label": "keys" }, el("h2", {}, "Keys"),
    rows(["key", "what it does"], help),
    el("form", { method: "dialog" }, el("button", {}, "close")));
  const host = el("div", { id: "view" });
  const tabs = Object.keys(views).map((name) => el("a", { href: `#${views[name].address}`, id: `tab-${name}` },
    views[name].title));
  replace(page,
    el("header", { class: "top" },
      el("div", {}, el("h1", {}, visible(title)), el("p", { class: "quiet" },
        facts.filter(Boolean).map(visible).join("  ·  "))),
      el("nav", { "aria-label": "views" }, tabs, dialog &&
        el("button", { class: "link", onclick: () => dialog.showModal(), "aria-label": "keys" }, "?"))),
    host, dialog ?? "", el("p", { id: "live", class: "away-from-eyes", "aria-live": "polite" }));
  let current = null, turn = 0;
  const draw = (again) => {
    const mine = ++turn, still = () => mine === turn; // for a view that waits: whether the reader has not moved on
    const name = Object.keys(views).find((one) => views[one].match(readAddress())) ?? Object.keys(views)[0];
    Object.keys(views).forEach((one, i) => tabs[i].setAttribute("aria-current", one === name ? "page" : "false"));
    document.body.dataset.view = name;
    if (name === current && !again && views[name].moved) return views[name].moved(host, still);
    current = name;
    views[name].draw(host, still);
  };
  addEventListener("hashchange", () => draw(false));
  addEventListener("keydown", (event) => {
    if (dialog?.open) return;
    if (event.key === "?" && dialog && !typing(event)) dialog.showModal();
    else views[current].keys?.(event);
  });
  onWidth(() => !views[current].keys && draw(true));
  draw(true);
}
