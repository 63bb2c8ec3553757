// The Agents page, live. The stream is only a hint that the log has grown: the rows themselves come from the server, which
// draws them with the same template as at the first load, after the cursor of what the page already shows.
//
// The stream is read with fetch, not with EventSource. That one gives only events whose types were named beforehand, and the
// log may hold any type (`deploy.finished`); it gives up for good on a 503, and cannot tell a 503 from a session that is gone.
"use strict";

const BEAT_SECONDS = 40; // the server says something every 15 s at least
const REFRESH_SECONDS = 10;
const LONGEST_WAIT_SECONDS = 30;
const SETTLED_SECONDS = 5; // what ends sooner counts as failed, so that nothing spins
const MOST_ROWS = 500;

const timeline = document.getElementById("timeline");
const instances = document.getElementById("instances");
const connection = document.getElementById("connection");
const announcer = document.getElementById("announcer");

class Over extends Error {} // asking again is useless

let over = false;
let cursor = Number(timeline.dataset.cursor);
let connecting = new AbortController();

function say(state, ...words) {
  if (connection.dataset.state === "lost" && state === "live") announcer.textContent = "Live again";
  connection.dataset.state = state;
  connection.replaceChildren(...words);
}

function sayOver(error) {
  if (over) return;
  over = true;
  connecting.abort(error);
  const link = document.createElement("a");
  link.href = timeline.dataset.login;
  link.textContent = "Sign in to resume live updates";
  say("over", error.message, " ", link);
  announcer.textContent = connection.textContent;
}

async function ask(url, options = {}) {
  // A redirect can only lead to a login.
  const response = await fetch(url, { redirect: "manual", ...options });
  if (response.type === "opaqueredirect" || response.status === 401) {
    throw new Over("Signed out.");
  }
  if (response.status === 403) throw new Over("You may not see the events any more.");
  if (!response.ok && response.status !== 304) {
    throw Object.assign(new Error(response.statusText), { waitSeconds: Number(response.headers.get("Retry-After")) });
  }
  return response;
}

function parsed(html) {
  const template = document.createElement("template");
  template.innerHTML = html; // drawn and escaped by the server
  return template.content;
}

function insert(days) {
  timeline.dataset.live = ""; // from now on what arrives is tinted for a moment
  for (const day of [...days.querySelectorAll(".day")].reverse()) {
    const newest = timeline.querySelector(".day");
    if (newest?.dataset.day === day.dataset.day) newest.querySelector(".rows").prepend(...day.querySelectorAll(".row"));
    else timeline.prepend(day);
  }
  for (const row of [...timeline.querySelectorAll(".row")].slice(MOST_ROWS)) row.remove();
  for (const day of timeline.querySelectorAll(".day:not(:has(.row))")) day.remove();
}

async function fetchRows() {
  const url = new URL(timeline.dataset.url, location.href);
  url.searchParams.set("after", cursor);
  const response = await ask(url, { signal: AbortSignal.timeout(BEAT_SECONDS * 1000) });
  const days = parsed(await response.text());
  cursor = Number(response.headers.get("Dormouse-Cursor"));
  const rows = days.querySelectorAll(".row");
  if (rows.length) {
    document.getElementById("empty")?.remove();
    insert(days);
    announcer.textContent = rows[1] ? `${rows.length} new events` : rows[0].querySelector(".sentence").textContent;
  }
  return response.headers.get("Dormouse-More") === "true";
}

let catchingUp = false;
let isBehind = false;

// One at a time: two would fetch the same rows. At most one a second in a burst.
async function catchUp() {
  isBehind = true;
  if (catchingUp || over) return;
  catchingUp = true;
  try {
    while (isBehind) {
      isBehind = false; // before asking: what comes meanwhile is asked for again
      const more = await fetchRows();
      refreshInstances();
      if (more) isBehind = true;
      else await pause(1);
    }
  } finally {
    catchingUp = false;
  }
}

let tag = "";

// Starts, leases and what others stop make no events.
async function refreshInstances() {
  if (over) return;
  try {
    const response = await ask(instances.dataset.url, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (response.status === 304) return;
    const focused = instances.contains(document.activeElement) && document.activeElement.id;
    instances.replaceChildren(parsed(await response.text()));
    tag = response.headers.get("ETag");
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  } catch (error) {
    if (error instanceof Over) sayOver(error); // else the stream says that the server is gone
  }
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    yield* blocks.map((block) => block.match(/^event: ?(.*)$/m)?.[1]);
  }
}

// Reads one connection to its end. True after an end that the server had announced.
async function follow() {
  const stop = (connecting = new AbortController());
  let beat;
  function expectBeat() {
    clearTimeout(beat);
    beat = setTimeout(() => stop.abort(), BEAT_SECONDS * 1000);
  }
  try {
    expectBeat();
    const stream = await ask(`${timeline.dataset.stream}?after=${cursor}`, { signal: stop.signal, cache: "no-store" });
    for await (const type of events(stream.body)) {
      expectBeat();
      if (type === "stream-open") say("live", "Live");
      if (type === "stream-end") return true;
      if (type && type !== "keep-alive") catchUp().catch((error) => connecting.abort(error));
    }
    return false;
  } catch (error) {
    throw stop.signal.reason ?? error;
  } finally {
    clearTimeout(beat);
    stop.abort();
  }
}

async function countDown(seconds) {
  announcer.textContent = "Connection lost";
  const end = Date.now() + seconds * 1000; // a hidden tab's seconds may last a minute
  for (let left = seconds; left > 0 && !over; left = (end - Date.now()) / 1000) {
    say("lost", `Connection lost. Retrying in ${Math.ceil(left)} s`);
    await pause(1);
  }
}

async function followForever() {
  for (let failures = 0; !over; failures += 1) {
    const began = performance.now();
    let planned = false;
    let waitSeconds = 0;
    try {
      planned = await follow();
    } catch (error) {
      if (error instanceof Over) return sayOver(error);
      waitSeconds = error.waitSeconds || 0;
    }
    if (performance.now() - began > SETTLED_SECONDS * 1000) failures = 0;
    if (planned && !failures) continue; // it comes back quietly
    const backoff = Math.min(2 ** (failures + 1), LONGEST_WAIT_SECONDS) * (0.5 + Math.random() / 2);
    await countDown(Math.max(waitSeconds, backoff));
  }
}

say("connecting", "Connecting…");
setInterval(() => document.hidden || refreshInstances(), REFRESH_SECONDS * 1000);
document.addEventListener("visibilitychange", () => document.hidden || refreshInstances());
followForever();
