"use strict";
// What every page shares: elements, numbers, packed data, the address. Whatever a model or a data set wrote reaches the
// page as text nodes and attribute values that el() makes, and in no other way.

const data = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page");

function el(tag, given = {}, ...children) {
  return fill(document.createElement(tag), given, children);
}

function svg(tag, given = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), given, children);
}

function fill(node, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function replace(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter(Boolean));
}

// Characters that do not show, turn the text around them or are half a pair: written out, so that one sees them.
const CONTROLS = "\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad";
const TURNING = "\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff";
const HIDDEN = new RegExp(`[${CONTROLS}${TURNING}\\ud800-\\udfff]`, "gu");

function visible(text) {
  return text.replace(HIDDEN, (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

// A question without the marks of where its pictures stand, as they are shown beside it.
function asked(question, pictures, most = Infinity) {
  return visible((pictures?.length ? question.replaceAll("<image>", " ").trim() : question).slice(0, most));
}

const percent = (x) => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(1)}`);
const grouped = (x) => Math.round(x).toLocaleString("en");
const signed = (x, digits = 2) => (x > 0 ? "+" : x < 0 ? "−" : "") + Math.abs(x).toFixed(digits);
const minus = (text) => String(text).replace(/-/g, "−");
const plural = (n, word) => `${grouped(n)} ${word}${n === 1 ? "" : "s"}`;

// A packed part of the data: gzip, written as base64 into a script element that never runs.
async function unpack(id) {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old to unpack the record");
  const letters = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(letters, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// The address behind "#" as a Map, and back. With `go` it leaves an entry in the browser's history. What the page writes
// itself gives no hashchange event, so that two keys pressed at once cannot be taken for a move by the reader.
function readAddress() {
  return new Map(new URLSearchParams(location.hash.slice(1)));
}

function writeAddress(fields, go) {
  const words = new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== "" && value !== null &&
    value !== undefined));
  const address = "#" + words.toString().replace(/=(?=&|$)/g, "");
  if (address === location.hash) return;
  if (go) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

function rows(head, body, given = {}) {
  const cells = (row, tag) => row.map((cell, i) => el(i ? tag : "th",
    { scope: i ? null : tag === "th" ? "col" : "row" }, cell));
  return el("div", { class: "scroll" }, el("table", given,
    el("thead", {}, el("tr", {}, cells(head, "th"))), el("tbody", {},
      body.map((row) => el("tr", {}, cells(row, "td"))))));
}

function section(title, ...children) {
  return el("section", {}, el("h2", {}, title), children);
}

const PICTURE = /^data:image\/(png|jpeg);base64,[A-Za-z0-9+/=]+$/;

function picture(source) {
  return PICTURE.test(source) && el("img", { src: source, alt: "the problem's picture", class: "picture" });
}

function say(text) {
  const live = document.getElementById("live");
  if (live) live.textContent = text;
}

function typing(event) {
  return event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input, select, textarea");
}

// Draw again when the width changes, as charts are made for the width that there is.
function onWidth(draw) {
  let width = innerWidth, waiting = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 100);
  });
}
