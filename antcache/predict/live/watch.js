// Shows answers as they come. Text from data is only ever set as text.
"use strict";

const KEPT = 120, COLOURS = 5, SVG = "http://www.w3.org/2000/svg";
const past = [];
const colours = new Map(); // action -> colour, for those that were likeliest, the newest last
let gap = "";

const at = (id) => document.getElementById(id);
const percent = (share) => (share >= 0.01 ? `${Math.round(100 * share)} %` : "<1 %");
const seconds = (value) => `${value.toFixed(1)} s`;

function made(tag, attributes, ...children) {
  const svg = ["svg", "rect"].includes(tag);
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children); // strings become text
  return element;
}

function bar(share) {
  const rect = made("rect", { x: 0, y: 0, width: 100 * share, height: 1 });
  return made("span", { class: "track" }, made("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" }, rect));
}

function showTop(top) {
  at("top").replaceChildren(...top.map((each) => made("li", {},
    made("span", { class: "name" }, each.name), bar(each.probability), made("span", { class: "share" }, percent(each.probability)))));
}

function colourOf(each) {
  if (!colours.has(each.action)) {
    const used = new Set([...colours.values()].map((c) => c.colour));
    let colour = [...Array(COLOURS).keys()].find((c) => !used.has(c));
    if (colour === undefined) { // the one that was likeliest longest ago gives its own
      const [oldest, its] = colours.entries().next().value;
      colours.delete(oldest);
      colour = its.colour;
    }
    colours.set(each.action, { colour, name: each.name });
  } else { // now the newest
    const its = colours.get(each.action);
    colours.delete(each.action);
    colours.set(each.action, its);
  }
}

function showBands() {
  const bands = at("bands"), rects = [];
  bands.setAttribute("viewBox", `0 0 ${KEPT} 1`);
  past.forEach((answer, i) => {
    let y = 1;
    const x = KEPT - past.length + i;
    for (const each of answer.top) {
      const its = colours.get(each.action), height = Math.min(each.probability, y);
      y -= height;
      rects.push(made("rect", { x, y, width: 1.02, height, class: `c${its ? its.colour : COLOURS}` }));
    }
  });
  bands.replaceChildren(...rects);
  const key = [...colours.values()].reverse().map((its) => made("li", {},
    made("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" }, made("rect", { width: 1, height: 1, class: `c${its.colour}` })), its.name));
  key.push(made("li", {}, made("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" }, made("rect", { width: 1, height: 1, class: `c${COLOURS}` })), "others of the likeliest"));
  at("key").replaceChildren(...key);
}

function keep(answer) {
  past.push(answer);
  if (past.length > KEPT) past.shift();
  if (answer.top.length) colourOf(answer.top[0]);
}

function show(answer) {
  showTop(answer.top);
  showBands();
  at("state").textContent = `${seconds(answer.time_s)}: ${gap}`;
  at("delay").textContent = `${Math.round(1000 * answer.delay_s)} ms`;
  at("frames").textContent = answer.frames;
  at("dropped").textContent = answer.dropped;
  at("dropped").classList.toggle("wrong", answer.dropped > 0);
  at("stand-ins").textContent = answer.stand_ins;
  at("heard").hidden = !answer.history;
  if (answer.history) showHistory(answer.history);
}

function showHistory(history) {
  const silent = history.silent ? `, ${history.silent} of ${history.ticks} ticks silent` : "";
  const anew = history.why ? `, begun anew ${history.why}` : "";
  at("history").textContent = `since ${seconds(history.since_s)}${silent}${anew}`;
  at("history").classList.toggle("wrong", Boolean(history.why));
}

const events = new EventSource("/events");
events.addEventListener("about", (event) => {
  const about = JSON.parse(event.data);
  past.length = 0;
  colours.clear();
  gap = about.when;
  document.title = `${about.source} – antcache watch`;
  at("source").textContent = about.source;
  at("state").textContent = "nothing seen yet";
  about.past.forEach(keep);
  if (past.length) show(past[past.length - 1]);
});
events.addEventListener("answer", (event) => {
  const answer = JSON.parse(event.data);
  keep(answer);
  show(answer);
});
events.addEventListener("end", (event) => {
  events.close();
  at("state").textContent = JSON.parse(event.data).text;
});
events.addEventListener("error", () => {
  if (events.readyState !== EventSource.CLOSED) at("state").textContent = "no connection; trying again";
});
