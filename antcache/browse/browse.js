// A store in a browser. Whatever comes from the store is put in as text, never as markup.
"use strict";

const $ = id => document.getElementById(id);
const FROM_FILES = document.documentElement.dataset.from === "files";
const KEPT = 80, STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600];
const state = { video: null, segment: null, zoom: 1, query: "", shown: [], open: null };
let list, classes = null, notes = null, figures = [];

// Documents: by fetch from the server, or by scripts that call `antcache` from files.
const kept = new Map(), waiting = new Map();
function antcache(name, value) { waiting.get(name)?.(value); waiting.delete(name); }

function fetched(name, signal) {
  if (!FROM_FILES) return fetch(`data/${name}.json`, { signal }).then(r => {
    if (!r.ok) kept.delete(name);  // it may be asked for again
    return r.ok ? r.json() : { why: r.statusText };
  });
  return new Promise(done => {
    const script = document.createElement("script");
    waiting.set(name, done);
    script.onload = () => script.remove();
    script.onerror = () => antcache(name, { why: "not among the exported files" });
    script.src = `data/${name}.js`;
    document.head.append(script);
  });
}
function get(name, signal) {
  const found = kept.get(name) ?? fetched(name, signal).catch(() => { kept.delete(name); return { why: "the server does not answer" }; });
  kept.delete(name);
  kept.set(name, found);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return found;
}

// Pictures take their time: those of a video that was left make way for others.
let looked = new AbortController(), making = new Set();
function picturesOf(name) {
  making.add(name);
  return get(name, looked.signal).finally(() => making.delete(name));
}
function leave() {
  for (const name of making) kept.delete(name);
  making = new Set();
  looked.abort();
  looked = new AbortController();
}

function el(tag, about = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (name === "text") made.textContent = value;
    else if (name === "style") for (const [k, v] of Object.entries(value)) made.style.setProperty(k, v);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inside.filter(each => each !== null && each !== undefined));
  return made;
}
const count = n => n.toLocaleString("en");
const percent = p => p === 0 ? "0 %" : p >= .995 ? "100 %" : p < .001 ? "< 0.1 %" : `${(100 * p).toFixed(p < .1 ? 1 : 0)} %`;
function clock(s, digits = 0) {
  const whole = digits ? s.toFixed(digits) : String(Math.floor(s)), t = Math.floor(s);
  const part = whole.slice(String(t).length), pad = n => String(n).padStart(2, "0");
  return (t >= 3600 ? `${Math.floor(t / 3600)}:${pad(Math.floor(t / 60) % 60)}` : Math.floor(t / 60)) + `:${pad(t % 60)}${part}`;
}
const hue = key => Math.round((key * 137.508 + 25) % 360);
const hueOf = action => hue(classes?.keys?.[action] ?? action);
const nameOf = action => classes?.actions?.[action] ?? `class ${action}`;
const judged = rank => rank === -1 ? "none" : rank === 0 ? "right" : rank > 0 && rank < 5 ? "near" : "wrong";
function words(rank) {
  if (rank === -1) return "no expectation";
  if (rank === 0) return "✓ right";
  if (rank === -2) return "✗ the truth is not among those that are kept";
  return rank < 5 ? `≈ the truth is number ${rank + 1}` : `✗ missed: the truth is number ${count(rank + 1)}`;
}
const label = system => `${system.kind === "run" ? "" : "teacher "}${system.name}`;
const short = system => system.kind === "run" ? system.name.split("/").filter(Boolean).slice(-2).join("/") : system.name;

// The list of videos.
const total = v => list.segments.reduce((sum, own) => sum + own[v], 0);
const sorted = () => {
  const [how, system] = $("sort").value.split("-"), own = figures[+system]?.videos;
  const by = {
    name: () => 0, segments: v => total(v), length: v => list.seconds[v], notes: v => flags(v).length,
    miss: v => own?.n[v] ? 1 - own.top5[v] / own.n[v] : -1, rank: v => own?.mean[v] ?? -1, match: v => matches(v),
  }[how];
  const value = new Map(state.shown.map(v => [v, by(v)]));
  state.shown.sort((a, b) => value.get(b) - value.get(a) || a - b);
};
const flags = v => notes?.findings?.filter(each => each.missing && each.videos.includes(v)) ?? [];
const current = () => {  // the system whose figures stand in the list
  const [, system] = $("sort").value.split("-");
  return system !== undefined ? +system : Math.max(0, list.systems.findIndex(s => s.kind === "run"));
};
let wanted = null;  // classes that are searched for
function search() {
  const query = $("search").value.trim().toLowerCase();
  state.query = query;
  const parts = query.split(/\s+/).filter(Boolean);
  const fits = text => parts.every(part => text.toLowerCase().includes(part));
  wanted = query && classes?.actions ? new Set(classes.actions.flatMap((name, id) => fits(name) ? [id] : [])) : null;
  const split = $("split").value;
  state.shown = list.videos.map((_, v) => v).filter(v =>
    (split === "" || list.segments[split][v]) && (!query || fits(list.videos[v]) || matches(v)));
  sorted();
  draw();
}
function matches(v) {
  if (!wanted?.size) return 0;
  return classes.here[v].reduce((sum, id, at) => sum + (wanted.has(id) ? classes.counts[v][at] : 0), 0);
}
const drawn = [];  // an item for each video, made once
function item(v) {
  const bar = el("canvas", { width: 40, height: 1, "aria-hidden": true }), ink = bar.getContext("2d");
  list.bars[v].forEach((key, at) => { if (key >= 0) { ink.fillStyle = `oklch(.68 .12 ${hue(key)})`; ink.fillRect(at, 0, 1, 1); } });
  const err = el("span", { class: "err" }), meta = el("span", { class: "meta" });
  const a = el("a", { href: link(v), "data-video": v }, el("b", { text: list.videos[v], title: list.videos[v] }), err, bar, meta);
  return { li: el("li", {}, a), a, err, meta };
}
function draw() {
  const own = figures[current()]?.videos;
  $("videos").replaceChildren(...state.shown.map(v => {
    const { li, a, err, meta } = drawn[v] ??= item(v), segments = total(v), found = state.query ? matches(v) : 0;
    const gone = Object.entries(list.streams).filter(([, has]) => has[v] === "0").map(([name]) => name);
    if (v === state.video) a.setAttribute("aria-current", "true");
    err.textContent = own?.n[v] ? percent(own.top5[v] / own.n[v]) : "";
    meta.replaceChildren(...[segments ? `${count(segments)} segments, ${clock(list.seconds[v])}` : "no labels",
      gone.length ? el("span", { class: "flag", text: `, no ${gone.join(", ")}` }) : flags(v).length ? el("span", { class: "flag", text: ", rows missing" }) : "",
      found ? el("span", { class: "hits", text: `, ${count(found)} found` }) : ""]);
    return li;
  }));
  const all = list.videos.length;
  const of = list.systems[current()], shown = state.shown.length;
  $("found").replaceChildren(`${shown === all ? "" : `${count(shown)} of `}${count(all)} videos`, of ? el("span", { text: `top-5 of ${short(of)}` }) : "");
}
const link = (v, s) => "#" + new URLSearchParams(s == null ? { v: list.videos[v] } : { v: list.videos[v], s });

// What is open stands in the address.
let routed = null;
function go(to) {
  location.hash = to;
  route();  // at once, however quickly keys follow each other
}
function route() {
  routed = location.hash;
  const asked = new URLSearchParams(location.hash.slice(1)), v = list.videos.indexOf(asked.get("v") ?? "");
  const s = asked.has("s") ? Number(asked.get("s")) : null, same = v === state.video;
  if (!same) leave();
  state.video = v < 0 ? null : v;
  state.segment = Number.isInteger(s) ? s : null;
  document.body.dataset.view = v < 0 ? "list" : "video";
  for (const a of $("videos").querySelectorAll("a")) {
    if (+a.dataset.video === v) { a.setAttribute("aria-current", "true"); a.scrollIntoView({ block: "nearest" }); } else a.removeAttribute("aria-current");
  }
  document.title = `${v < 0 ? list.store.split("/").pop() : list.videos[v]} - antcache browse`;
  if (v < 0) overview();
  else if (same && state.open) showSegment();
  else openVideo(v);
}

// The store as a whole.
function overview() {
  state.open = null;
  const shares = (row, own) => [count(own.n), ...["top1", "top5"].map(k => own.n ? percent(own[k] / own.n) : "-"), own.mean ?? "-"];
  const table = (title, heads, rows) => rows.length ? el("table", {}, el("caption", { text: title }),
    el("thead", {}, el("tr", {}, ...heads.map(text => el("th", { scope: "col", text })))),
    el("tbody", {}, ...rows.map(([name, ...cells]) => el("tr", {}, el("th", { scope: "row", text: name }), ...cells.map(text => el("td", { text })))))) : null;
  const splits = list.splits.map((name, i) => [name, count(list.segments[i].filter(Boolean).length), count(list.segments[i].reduce((a, b) => a + b, 0))]);
  const streams = Object.entries(list.streams).map(([name, has]) => [name, `${count([...has].filter(c => c === "1").length)} of ${count(has.length)}`]);
  const systems = list.systems.map((s, k) => [label(s), ...(figures[k]?.all ? shares(s, figures[k].all) : [figures[k]?.why ?? "reading ...", "", "", ""])]);
  $("main").className = "first";
  $("main").replaceChildren(
    ...list.problems.map(text => el("p", { class: "why", text })),
    el("h2", { text: list.dataset || list.store }), el("p", { class: "soft", text: `Windows: ${list.window}. Open a video from the list, or press j.` }),
    ...[table("Expectations", ["system", "segments", "top-1", "top-5", "mean rank"], systems),
      table("Labels", ["split", "videos", "segments"], splits), table("Features", ["stream", "videos"], streams)].filter(Boolean),
    findings());
}
function linked(text, videos) {  // a text in which the names of videos lead to them
  const first = videos.map(v => [text.indexOf(list.videos[v]), v]).filter(([at]) => at >= 0).sort((a, b) => a[0] - b[0] || b[1] - a[1])[0];
  if (!first) return [text];
  const [at, v] = first, name = list.videos[v];
  return [text.slice(0, at), el("a", { href: link(v), text: name }), ...linked(text.slice(at + name.length), videos.filter(w => w !== v))];
}
function findings(v = null) {
  if (!notes) return el("p", { class: "soft", text: "The doctor is looking ..." });
  if (notes.why) return el("p", { class: "note", text: `The doctor: ${notes.why}` });
  const own = v === null ? notes.findings : notes.findings.filter(each => each.videos.includes(v));
  if (!own.length) return v === null ? el("p", { class: "note", text: "The doctor finds nothing missing." }) : el("span");
  return el("section", {}, el("h3", { text: v === null ? "What the doctor says" : "What the doctor says of this video" }), el("ul", { class: "findings" }, ...own.map(each =>
    el("li", { class: each.missing ? "note missing" : "note" }, el("b", { text: `${each.missing ? "Missing" : "Note"}: ${each.where}` }),
      ...linked(each.text, each.videos.filter(w => w !== v).slice(0, 20))))));
}

// One video.
async function openVideo(v) {
  state.open = null;
  const [video, ...guesses] = await Promise.all([get(`video-${v}`), ...list.systems.map((_, k) => get(`guesses-${k}-${v}`))]);
  classes ??= await ready;
  if (state.video !== v) return;
  if (video.why) { $("main").replaceChildren(el("p", { class: "why", text: video.why })); return; }
  state.open = { v, video, guesses, dark: "Pictures are being made ..." };
  state.zoom = 1;
  $("main").className = "";
  const splits = [...new Set(video.split)].map(i => list.splits[i]).join(", ");
  const zoom = by => () => zoomBy(by);
  $("main").replaceChildren(
    el("div", { class: "bar" },
      el("button", { id: "back", type: "button", text: "←", "aria-label": "Back to the list", onclick: () => go("") }),
      el("h2", { text: video.name }),
      el("button", { type: "button", text: "−", "aria-label": "Less of the timeline's detail", title: "−", onclick: zoom(.5) }),
      el("button", { type: "button", text: "+", "aria-label": "More of the timeline's detail", title: "+", onclick: zoom(2) })),
    el("p", { class: "soft small", text: `${count(video.uid.length)} segments${splits ? ` of ${splits}` : ""}, ${clock(video.seconds)}` }),
    ...guesses.flatMap((own, k) => own.why ? [el("p", { class: "why", text: `${label(list.systems[k])}: ${own.why}` })] : []),
    el("div", { class: "tracks", id: "tracks", tabindex: 0, role: "group", "aria-label": "Timeline; arrow keys go from segment to segment" }),
    el("p", { class: "legend" }, el("span", {}, el("i"), "the best guess is right"), el("span", {}, el("i", { class: "five" }), "the truth is among the 5 best"),
      el("span", {}, el("i", { class: "miss" }), "missed"), el("span", { text: "colours are verbs: those of the guess" })),
    el("section", { id: "segment", class: "segment", "aria-label": "Segment" }),
    el("div", { id: "notes" }, findings(v)));
  timeline();
  if (state.segment === null && video.uid.length) state.segment = 0;
  showSegment();
  if (!list.pictures) return;
  const strip = await picturesOf(`strip-${v}`);
  if (state.open?.v !== v) return;
  if (strip.why) { $("dark").textContent = state.open.dark = `No pictures: ${strip.why}`; return; }
  const first = new Image();
  first.src = strip.pictures[0];
  await first.decode().catch(() => {});
  if (state.open?.v !== v) return;
  state.open.strip = { ...strip, wide: 62 * (first.naturalWidth || 16) / (first.naturalHeight || 9) };
  timeline();
  showSegment();
}
function lanes(video) {
  const ends = [];
  return video.start.map((start, s) => {
    let lane = ends.findIndex(end => end <= start + .001);
    if (lane < 0) lane = ends.length < 4 ? ends.length : ends.indexOf(Math.min(...ends));
    ends[lane] = video.stop[s];
    return lane;
  });
}
function timeline() {
  const { video, guesses, strip, v } = state.open, end = video.seconds || 1, tracks = $("tracks");
  const at = s => `${(100 * s / end).toFixed(4)}%`, wide = Math.max(200, (tracks.clientWidth - 20) * state.zoom);
  const lane = lanes(video), depth = Math.max(1, ...lane.map(n => n + 1));
  const cap = (name, text, kind = "") => el("div", { class: `cap ${kind}` }, el("b", { text: name, title: name }), text ? el("span", { text }) : null);
  const plane = el("div", { class: "plane", id: "plane", style: { width: `${wide}px` } });
  if (strip) {
    const step = Math.max(1, Math.ceil(strip.pictures.length / (wide / (strip.wide + 6)))), half = strip.wide / 2;
    plane.append(el("div", { class: "track film" }, ...strip.pictures.flatMap((src, n) => n % step === Math.floor(step / 2) || step === 1
      ? [el("img", { src, alt: `at ${clock(strip.seconds[n])}`, loading: "lazy", style: { left: `clamp(${half}px, ${at(strip.seconds[n])}, calc(100% - ${half}px))` } })] : [])));
  }
  if (list.pictures && !strip) plane.append(el("p", { id: "dark", class: "track film small soft", text: state.open.dark }));  // nothing moves when they come
  const step = STEPS.find(s => wide * s / end > 64) ?? 7200;
  plane.append(el("div", { class: "track axis", "aria-hidden": true }, ...Array.from({ length: Math.min(400, Math.ceil(end / step)) }, (_, n) => el("span", { text: clock(n * step), style: { left: at(n * step) } }))));
  const block = (s, kind, action, text, style = {}) => el("div", { class: `seg ${kind}`, "data-s": s, title: text,
    style: { "--h": hueOf(action), left: at(video.start[s]), width: `max(2px, ${at(video.stop[s] - video.start[s])})`, ...style } },
    (video.stop[s] - video.start[s]) / end * wide > 34 && kind !== "guess wrong" ? el("span", { text: nameOf(action) }) : null);
  const lacking = new Set(Object.values(notes?.lacking ?? {}).flat().filter(pair => pair[0] === v).map(pair => pair[1]));
  if (video.uid.length) {
    plane.append(cap("labels"), el("div", { class: "track", style: { height: `${depth * 23 - 1}px` } }, ...video.uid.map((_, s) => {
      const seen = wanted?.size ? wanted.has(video.action[s]) ? " hit" : " dim" : "";
      return block(s, (lacking.has(s) ? "lacks" : "") + seen, video.action[s], `${nameOf(video.action[s])}, ${clock(video.start[s], 1)} to ${clock(video.stop[s], 1)}`,
        { top: `${lane[s] * 23}px`, height: "22px" });
    })));
    guesses.forEach((own, k) => {
      if (own.why || own.rank.every(rank => rank === -1)) return;
      const ranks = own.rank.filter(rank => rank !== -1), near = ranks.filter(rank => rank >= 0 && rank < 5).length;
      plane.append(cap(short(list.systems[k]), `top-5 ${percent(near / ranks.length)}`, list.systems[k].kind),
        el("div", { class: "track", style: { height: `${depth * 21 - 1}px` } }, ...own.rank.flatMap((rank, s) => rank === -1 ? [] :
          [block(s, `guess ${judged(rank)}`, own.best[s][0], `${nameOf(own.best[s][0])} ${percent(own.share[s][0])}: ${words(rank)}`,
            { bottom: `${(depth - 1 - lane[s]) * 21}px` })])));
    });
  }
  for (const stream of video.streams) {
    plane.append(cap(stream.name, stream.why ?? `${count(stream.rows)} rows, ${stream.of}`),
      el("div", { class: "track rows" }, ...(stream.spans ?? []).map(([a, b]) => el("i", { style: { left: at(a), width: at(b - a) } }))));
  }
  plane.append(el("div", { class: "pick", id: "pick", hidden: true }));
  tracks.replaceChildren(plane);
  mark();
}
function mark() {
  const { video } = state.open ?? {}, s = state.segment, pick = $("pick");
  if (!pick || !video) return;
  pick.hidden = s === null || s >= video.uid.length || s < 0;
  if (pick.hidden) return;
  const end = video.seconds || 1, plane = $("plane"), tracks = $("tracks"), left = video.start[s] / end * plane.offsetWidth;
  pick.style.left = `${100 * video.start[s] / end}%`;
  pick.style.width = `${100 * (video.stop[s] - video.start[s]) / end}%`;
  if (left < tracks.scrollLeft || left > tracks.scrollLeft + tracks.clientWidth - 40) tracks.scrollLeft = left - tracks.clientWidth / 3;
}
async function showSegment() {
  const { video, guesses, v } = state.open, s = state.segment, place = $("segment");
  mark();
  if (s === null || !(s in video.uid)) { place.replaceChildren(); return; }
  const truth = video.action[s], next = step => () => goSegment(step);
  const film = el("div", { class: "seen", hidden: true });
  place.replaceChildren(
    el("div", { class: "bar" }, el("h2", { text: nameOf(truth) }),
      el("button", { type: "button", text: "‹ before", onclick: next(-1), disabled: s === 0 }), el("button", { type: "button", text: "next ›", onclick: next(1), disabled: s === video.uid.length - 1 }),
      list.systems.length ? el("button", { type: "button", text: "next miss", title: "n", onclick: () => goMiss(1) }) : null),
    el("p", { class: "soft small", text: `${clock(video.start[s], 1)} to ${clock(video.stop[s], 1)}, ${list.splits[video.split[s]]}, segment ${video.uid[s]}` }),
    ...Object.entries(notes?.lacking ?? {}).flatMap(([stream, pairs]) => pairs.some(p => p[0] === v && p[1] === s) ? [el("p", { class: "why small", text: `Its window lacks rows of ${stream}.` })] : []),
    film,
    el("div", { class: "cards" }, ...guesses.flatMap((own, k) => own.why || own.rank[s] === -1 ? [] : [card(list.systems[k], own, s, truth)])));
  $("said").textContent = `${nameOf(truth)}, ${clock(video.start[s], 1)}`;
  if (!list.pictures || FROM_FILES || !state.open.strip) return;
  const seen = await picturesOf(`seen-${v}-${s}`);
  if (!seen.pictures || state.segment !== s || state.video !== v) return;
  film.replaceChildren(...seen.pictures.map((src, n) => {
    const then = n === seen.pictures.length - 1, text = then ? "then" : `${(video.start[s] - seen.seconds[n]).toFixed(1)} s before`;
    return el("figure", { class: then && "then" }, el("img", { src, alt: "" }), el("figcaption", { text }));
  }));
  film.hidden = false;
}
function card(system, own, s, truth) {
  const rank = own.rank[s], best = own.best[s].flatMap((action, n) => action < 0 ? [] : [[action, own.share[s][n]]]);
  return el("div", { class: `card ${system.kind}` }, el("h3", { text: short(system), title: label(system) }), el("p", { class: `state ${judged(rank)}`, text: words(rank) }),
    el("ol", { class: "likely" }, ...best.map(([action, share]) => el("li", { class: action === truth && "truth", style: { "--p": share, "--h": hueOf(action) } },
      el("span", { text: nameOf(action) }, action === truth ? el("span", { class: "hidden", text: " (the truth)" }) : null), el("span", { text: percent(share) })))));
}

// Where to go.
function goVideo(step) {
  const at = state.shown.indexOf(state.video), to = state.shown[at < 0 ? 0 : at + step];
  if (to !== undefined) go(link(to));
}
function toSegment(s) {
  state.segment = s;
  history.replaceState(null, "", link(state.video, s));
  routed = location.hash;
  showSegment();
}
function goSegment(step) {
  const to = (state.segment ?? -1) + step;
  if (state.open && to in state.open.video.uid) toSegment(to);
}
function goMiss(step) {
  const ranks = state.open?.guesses[current()]?.rank ?? [];
  for (let s = state.segment + step; s in ranks; s += step) if (judged(ranks[s]) === "wrong") { toSegment(s); return; }
  $("said").textContent = "no further miss";
}
function zoomBy(by) {
  if (!state.open) return;
  state.zoom = Math.min(64, Math.max(1, state.zoom * by));
  timeline();
}
const KEYS = {
  j: () => goVideo(1), k: () => goVideo(-1), ArrowDown: () => goVideo(1), ArrowUp: () => goVideo(-1),
  l: () => goSegment(1), h: () => goSegment(-1), ArrowRight: () => goSegment(1), ArrowLeft: () => goSegment(-1),
  n: () => goMiss(1), p: () => goMiss(-1), "+": () => zoomBy(2), "=": () => zoomBy(2), "-": () => zoomBy(.5),
  "/": () => { if (state.video !== null && innerWidth < 900) go(""); $("search").focus(); },
  "?": () => $("keys").showModal(), Escape: () => go(""),
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") { event.target.blur(); event.preventDefault(); }
    return;
  }
  const does = KEYS[event.key];
  if (does && list) { event.preventDefault(); does(); }
});
document.addEventListener("click", event => {
  let at = event.target.closest?.("[data-s]");
  if (!at && event.target.closest?.(".tracks")) at = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-s]");  // drawn anew meanwhile
  const s = at?.dataset.s;
  if (s !== undefined) toSegment(+s);
});
$("ask").addEventListener("click", () => $("keys").showModal());
$("tools").addEventListener("submit", event => { event.preventDefault(); searched(); $("videos").querySelector("a")?.click(); });
let typed;
function searched() { clearTimeout(typed); search(); if (state.open) timeline(); }
$("search").addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(searched, 90); });
for (const id of ["split", "sort"]) $(id).addEventListener("change", search);
let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { if (state.open) timeline(); }, 100); });
addEventListener("hashchange", () => { if (list && location.hash !== routed) route(); });

// From the start: the list first, then what stands beside it.
async function begin() {
  list = await get("list");
  if (list.why) { $("main").replaceChildren(el("p", { class: "why", text: list.why })); list = undefined; return; }
  $("store").textContent = list.store.split("/").pop() || list.store;
  $("store").title = list.store;
  const segments = list.videos.reduce((sum, _, v) => sum + total(v), 0);
  $("about").textContent = `${list.dataset ? `${list.dataset}, ` : ""}${count(list.videos.length)} videos, ${count(segments)} segments`;
  $("split").replaceChildren(el("option", { value: "", text: "all" }), ...list.splits.map((text, value) => el("option", { value, text })));
  $("sort").replaceChildren(...[["name", "name"], ["segments", "most segments"], ["length", "longest"], ["notes", "what is missing"], ["match", "most found"],
    ...list.systems.flatMap((s, k) => [[`miss-${k}`, `top-5 misses of ${short(s)}`], [`rank-${k}`, `mean rank of ${short(s)}`]])]
    .map(([value, text]) => el("option", { value, text })));
  search();
  route();
  classes = await ready;
  if (state.query) search();
  const refresh = () => { sorted(); draw(); if (state.video === null) overview(); };
  list.systems.forEach(async (_, k) => { figures[k] = await get(`figures-${k}`); refresh(); });
  notes = await get("notes");
  refresh();
  if (state.open) { $("notes").replaceChildren(findings(state.open.v)); timeline(); showSegment(); }
}
const ready = get("classes");
begin();
