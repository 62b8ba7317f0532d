"use strict";
// Everything that comes from outside goes in as text (`textContent`), never as markup.

const KEPT = 120;            // points of a line, as the gateway keeps them
const MANY = 12;             // cameras from which cards are small
const SPANS = [15, 30, 60, 120, 300, 600];  // seconds of a time axis
const BREAK = 3;             // seconds without a decision that interrupt a line
const SILENCE = 5000;        // milliseconds without a message until the gateway counts as gone
const RETRY = 2000;          // milliseconds between attempts to connect
const SAY = 3000;            // milliseconds between announcements to a screen reader
const OLD = 3;               // seconds from which an action is shown with its age
const TRACKS = 4;            // tracks that a card lists

const byId = (id) => document.getElementById(id);
const cards = new Map();
const hues = new Map();
const changed = new Map();

function element(name, classes = "", text = "") {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (text) made.textContent = text;
  return made;
}

// Writes only what changed, so that a selection or a screen reader is not disturbed.
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// An action keeps its colour over reloads as long as no other one has the same.
function hue(label) {
  if (!hues.has(label)) {
    let hash = 0;
    for (const letter of label) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
    const taken = new Set(hues.values());
    let slot = hash % 24;
    for (let tries = 0; tries < 24 && taken.has(slot * 15); tries++) slot = (slot + 7) % 24;
    if (hues.size > 2000) hues.clear();
    hues.set(label, slot * 15);
  }
  return hues.get(label);
}

function paint(node, label) {
  node.classList.add("hue");
  node.style.setProperty("--hue", hue(label));
  node.toggleAttribute("data-unknown", label === "unknown");
}

const ago = (seconds) => seconds < 120
  ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
const percent = (part) => `${Math.round(100 * part)} %`;
const milliseconds = (seconds) => String(Math.round(1000 * seconds));
const counted = (number) => number < 1e5 ? String(number) : `${(number / 1000).toFixed(0)}k`;

function clockTime(seconds, clock) {
  if (clock === "wall") {
    return new Date(1000 * seconds).toLocaleTimeString([], { hour12: false });
  }
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MB`;
}

class Card {
  constructor(name) {
    this.name = name;
    this.points = [];
    this.clock = "";
    this.node = byId("card").content.firstElementChild.cloneNode(true);
    const find = (selector) => this.node.querySelector(selector);
    this.badge = find(".badge");
    this.cause = find(".cause");
    this.label = find(".action .label");
    this.probability = find(".action .probability");
    this.top = find(".top");
    this.svg = find("svg");
    this.lines = find("svg g");
    this.axis = [...find(".axis").children];
    this.figures = Object.fromEntries(
      [...this.node.querySelectorAll("dd")].map((dd) => [dd.dataset.of, dd]));
    const title = find("h2");
    title.textContent = title.title = name;
    title.id = `camera-${cards.size}-${Date.now()}`;
    this.node.setAttribute("aria-labelledby", title.id);
  }

  update(camera, now) {
    if (camera.clock !== this.clock) this.points = [];
    this.clock = camera.clock;
    const last = this.points.length ? this.points[this.points.length - 1].number : 0;
    this.points.push(...camera.history.filter((point) => point.number > last));
    this.points.splice(0, this.points.length - KEPT);
    this.node.dataset.state = camera.state;
    this.node.title = camera.what;
    write(this.badge, camera.state);
    this.badge.dataset.is = camera.state;
    this.badge.title = `for ${Math.round(camera.state_seconds)} s`;
    this.cause.hidden = !camera.cause;
    this.cause.title = camera.cause;
    write(this.cause, camera.cause);
    this.showAction(camera);
    this.showLine(camera, now);
    this.showFigures(camera);
  }

  showAction(camera) {
    const best = camera.actions[0];
    const text = best ? best.label : "no action yet";
    const before = this.label.textContent;
    if (before && before !== text) changed.set(this.name, text);
    write(this.label, text);
    this.label.title = text;
    paint(this.label, best ? best.label : "unknown");
    const old = best && best.age_seconds >= OLD;
    this.node.classList.toggle("old", Boolean(old));
    write(this.probability, !best ? "" : old ? ago(best.age_seconds) : percent(best.probability));
    const tracks = camera.actions.some((action) => action.track !== null);
    const rows = tracks
      ? camera.actions.slice(0, TRACKS).map((a) => [`${a.track}: ${a.label}`, a.probability, a.label])
      : (best ? best.top : []).map(([label, part]) => [label, part, label]);
    const left = camera.actions.length - TRACKS;
    if (tracks && left > 0) rows.push([`and ${left} more tracks`, null, "unknown"]);
    while (this.top.children.length > rows.length) this.top.lastChild.remove();
    while (this.top.children.length < rows.length) this.top.append(topRow());
    rows.forEach(([name, part, label], row) => {
      const [text, bar, number] = this.top.children[row].children;
      write(text, name);
      text.title = name;
      paint(bar, label);
      bar.style.visibility = part === null ? "hidden" : "";
      bar.firstElementChild.style.width = `${100 * (part ?? 0)}%`;
      write(number, part === null ? "" : percent(part));
    });
  }

  showLine(camera, now) {
    const points = this.points;
    const covered = points.length ? points[points.length - 1].time - points[0].time : 0;
    const span = SPANS.find((seconds) => seconds >= covered) ?? SPANS[SPANS.length - 1];
    const wall = camera.clock === "wall";
    const end = wall || !points.length ? now : points[points.length - 1].time;
    const start = end - span;
    const paths = new Map();
    const draw = (label, piece) => paths.set(label, (paths.get(label) ?? "") + piece);
    const before = new Map();
    for (const { time, label, probability, track } of points) {
      if (time < start || time > end + span) continue;
      const x = (300 * (time - start) / span).toFixed(1);
      const y = (98 - 96 * probability).toFixed(1);
      const from = before.get(track);
      const joined = from && time > from.time && time - from.time <= BREAK;
      if (joined) draw(label, `M${from.x} ${from.y}L${x} ${y}`);
      else if (from?.alone) draw(from.label, `M${from.x} ${from.y}h3`);
      before.set(track, { time, label, x, y, alone: !joined });
    }
    for (const { label, x, y, alone } of before.values()) {
      if (alone) draw(label, `M${x} ${y}h3`);
    }
    const kept = [...this.lines.children];
    [...paths].forEach(([label, d], index) => {
      const path = kept[index]
        ?? this.lines.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
      path.setAttribute("d", d);
      paint(path, label);
    });
    kept.slice(paths.size).forEach((path) => path.remove());
    const labels = wall
      ? [`−${span} s`, `−${span / 2} s`, "now"]
      : (points.length ? [start, start + span / 2, end] : []).map((t) => `${t.toFixed(1)} s`);
    this.axis.forEach((node, index) => write(node, labels[index] ?? ""));
    this.svg.setAttribute("aria-label", `Probability of the action over ${span} s`);
  }

  showFigures(camera) {
    const figures = this.figures;
    write(figures.rate, camera.decisions_per_second.toFixed(1));
    write(figures.latency, camera.latency_p50 === null ? "–"
      : `${milliseconds(camera.latency_p50)} / ${milliseconds(camera.latency_p95)}`);
    for (const name of ["dropped", "skipped"]) {
      write(figures[name], counted(camera[name]));
      figures[name].classList.toggle("raised", camera[name] > 0);
    }
    figures.gate.parentElement.hidden = camera.gate_open === null;
    const duty = camera.gate_seconds > 0 ? camera.gate_open_seconds / camera.gate_seconds : 0;
    write(figures.gate, percent(duty));
  }
}

function topRow() {
  const row = element("li");
  const bar = element("span", "bar");
  bar.append(element("i"));
  row.append(element("span", "name"), bar, element("span", "part"));
  return row;
}

function showCameras(cameras, now) {
  const main = byId("cameras");
  const names = new Set(cameras.map((camera) => camera.name));
  for (const [name, card] of cards) {
    if (names.has(name)) continue;
    card.node.remove();
    cards.delete(name);
    changed.delete(name);
  }
  cameras.forEach((camera, index) => {
    if (!cards.has(camera.name)) cards.set(camera.name, new Card(camera.name));
    const { node } = cards.get(camera.name);
    if (main.children[index] !== node) main.insertBefore(node, main.children[index] ?? null);
    cards.get(camera.name).update(camera, now);
  });
  document.body.toggleAttribute("data-many", cameras.length > MANY);
}

function showSummary(cameras) {
  const states = new Map();
  for (const { state } of cameras) states.set(state, (states.get(state) ?? 0) + 1);
  const parts = [...states].map(([state, count]) => `${count} ${state}`);
  write(byId("summary"), cameras.length
    ? `${cameras.length} ${cameras.length === 1 ? "camera" : "cameras"}: ${parts.join(", ")}`
    : "No cameras");
  const well = (states.get("live") ?? 0) + (states.get("idle") ?? 0);
  document.title = cameras.length ? `${well} of ${cameras.length} live · fgmclip` : "fgmclip";
}

function chip(id, text, is) {
  write(byId(id), text);
  byId(id).dataset.is = is;
}

function table(id, rows) {
  const body = byId(id);
  while (body.children.length > rows.length) body.lastChild.remove();
  rows.forEach((cells, index) => {
    const row = body.children[index] ?? body.appendChild(element("tr"));
    while (row.children.length < cells.length) row.append(element("td"));
    cells.forEach((cell, column) => write(row.children[column], String(cell)));
  });
}

function showServices({ endpoints, sinks, outbox }) {
  const healthy = endpoints.filter((endpoint) => endpoint.healthy).length;
  const all = endpoints.length;
  chip("servers-chip", `servers ${healthy} of ${all}`,
    healthy === 0 ? "bad" : healthy < all ? "warn" : "good");
  table("servers", endpoints.map((e) => [
    e.url, e.healthy ? "healthy" : "down", e.requests, e.failures, e.retries, e.in_flight]));
  const failing = sinks.filter((sink) => sink.last_error).map((sink) => sink.sink);
  chip("sinks-chip", failing.length ? `failing: ${failing.join(", ")}`
    : sinks.length ? `sinks ${sinks.map((sink) => sink.sink).join(", ")}` : "no sinks",
    failing.length ? "warn" : sinks.length ? "good" : "");
  table("sinks", sinks.map((s) => [
    s.sink, s.last_error || "ok", s.delivered, s.waiting, s.failures, s.refused]));
  if (outbox === null) {
    chip("outbox-chip", "outbox unknown", "warn");
    return;
  }
  const waiting = Math.max(0, ...Object.values(outbox.waiting));
  const refused = outbox.refused ? `, ${outbox.refused} refused` : "";
  chip("outbox-chip", `outbox ${waiting} waiting, ${megabytes(outbox.bytes)}${refused}`,
    outbox.refused ? "bad" : outbox.oldest_seconds > 60 ? "warn" : "good");
}

function showEvents(events) {
  const list = byId("events");
  byId("no-events").hidden = events.length > 0;
  list.hidden = events.length === 0;
  while (list.children.length > events.length) list.lastChild.remove();
  events.forEach((event, index) => {
    const row = list.children[index] ?? list.appendChild(eventRow());
    const [time, what, state, where, how] = row.children;
    write(time, clockTime(event.start, event.clock));
    write(what, event.label);
    what.title = event.label;
    paint(what, event.label);
    write(state, event.state);
    state.dataset.is = event.state;
    write(where, event.track === null ? event.camera : `${event.camera}, ${event.track}`);
    const took = event.end === null ? "" : `${(event.end - event.start).toFixed(1)} s, `;
    write(how, `${took}peak ${percent(event.peak)}`);
  });
}

function eventRow() {
  const row = element("li");
  row.append(element("time"), element("span", "what"), element("span", "badge"),
    element("span", "where"), element("span", "how"));
  return row;
}

function show(snapshot) {
  showSummary(snapshot.cameras);
  showServices(snapshot);
  showCameras(snapshot.cameras, snapshot.time);
  showEvents(snapshot.events);
}

let source = null;
let heard = Date.now();
let gone = null;

function connect() {
  if (source) source.close();
  heard = Date.now();
  let first = true;
  source = new EventSource("/api/stream");
  source.onmessage = ({ data }) => {
    heard = Date.now();
    // A gateway that was started anew numbers its decisions anew.
    if (first) for (const card of cards.values()) card.points = [];
    first = false;
    gone = null;
    byId("notice").hidden = true;
    document.body.removeAttribute("data-gone");
    show(JSON.parse(data));
  };
  source.onerror = lost;
}

function lost() {
  source.close();
  gone ??= new Date();
  const since = gone.toLocaleTimeString([], { hour12: false });
  write(byId("notice"), `No connection to the gateway since ${since}; trying again.`);
  byId("notice").hidden = false;
  document.body.setAttribute("data-gone", "");
  setTimeout(connect, RETRY);
}

setInterval(() => {
  if (source.readyState !== EventSource.CLOSED && Date.now() - heard > SILENCE) lost();
}, 1000);

// Many cameras change often: what changed is said together, and what changed back is not.
setInterval(() => {
  if (changed.size === 0) return;
  const said = [...changed].slice(0, 3).map(([name, label]) => `${name}: ${label}`);
  if (changed.size > 3) said.push(`and ${changed.size - 3} more`);
  changed.clear();
  write(byId("announcement"), said.join(", "));
}, SAY);

connect();
