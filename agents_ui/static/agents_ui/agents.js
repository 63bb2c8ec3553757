// The Agents page, live. The stream only tells that the log has grown; the page then fetches rendered rows after its cursor.
import { announce, ask, check, follow, held, mustPoll, noteFetch, pause, showState } from "./stream.js";

const REFRESH_SECONDS = 1; // `starting` makes no event; nearly all answers are a 304 without a body
const MAX_ROWS = 500;
const MAX_HELD = 100;
const BULK_ROWS = 10;
const STILL_MS = 20_000; // a pointer that has not moved for this long holds nothing
const MAX_RETRY_SECONDS = 10;

const timeline = document.getElementById("timeline");
const feed = document.getElementById("feed");
const button = document.getElementById("show");
const pauseButton = document.getElementById("pause");
const icon = document.querySelector("link[rel=icon]");
const parsed = (html) => new DOMParser().parseFromString(html, "text/html");
const original = { title: document.title, icon: icon.href };

let cursor = Number(timeline.dataset.cursor);
let isFinished = false;
let failures = 0; // failures that came while the tab was hidden
let movedAt = 0; // when the pointer last moved over the list

let fragments = []; // the held rows, oldest first; empty above MAX_HELD
let mustRedraw = false; // the held rows would leave a gap, so the list must be fetched again

// Returns whether the reader is in the list, so that nothing there may move.
function isReading() {
  const selection = getSelection();
  return (
    held.paused ||
    document.hidden ||
    feed.getBoundingClientRect().top < 0 ||
    timeline.contains(document.activeElement) ||
    document.activeElement === button ||
    (Date.now() - movedAt < STILL_MS && matchMedia("(hover)").matches && feed.matches(":hover")) || // on a touch screen an element stays hovered until the next tap
    (!selection.isCollapsed && selection.containsNode(timeline, true))
  );
}

function hold(days, count) {
  fragments = mustRedraw ? [] : [...fragments, days];
  held.rows += count;
  held.failures += days.querySelectorAll(".row.alert").length;
  showUnlessReading();
  if (held.rows > MAX_HELD) dropHeld();
}

function dropHeld() {
  fragments = [];
  mustRedraw = true;
}

function showUnlessReading() {
  if ((held.rows || mustRedraw) && !isReading()) show();
  button.hidden = !held.rows && !mustRedraw;
  const text = held.rows ? `Show ${countEvents(held.rows, held.failures)}` : "Show the newest events";
  if (button.textContent !== text) button.textContent = text;
}

function countEvents(rows, failed) {
  return `${rows} new event${rows === 1 ? "" : "s"}` + (failed ? `, ${failed} failed` : "");
}

function show() {
  if (mustRedraw) return redraw();
  document.getElementById("empty")?.remove();
  timeline.toggleAttribute("data-live", held.rows < BULK_ROWS); // a few new rows are tinted for a moment, many are not
  if (held.rows >= BULK_ROWS) showVisibleRowsFirst(fragments.flatMap((days) => [...days.querySelectorAll(".row")]));
  for (const days of fragments) [...days.querySelectorAll(".day")].reverse().forEach(prepend);
  dropOldest();
  clearHeld();
}

// Laying out a hundred rows takes a phone twice as long as an answer to a tap may take, so the rest is shown a little later.
function showVisibleRowsFirst(rows) {
  for (const row of rows) row.classList.add("late");
  requestAnimationFrame(() => setTimeout(() => rows.forEach((row) => row.classList.remove("late"))));
}

function clearHeld() {
  fragments = [];
  mustRedraw = false;
  held.rows = held.failures = 0;
  button.hidden = true;
}

function prepend(day) {
  const newest = timeline.querySelector(".day");
  if (newest?.dataset.day === day.dataset.day) newest.querySelector(".rows").prepend(...day.querySelectorAll(".row"));
  else timeline.prepend(day);
}

function dropOldest() {
  const rows = [...timeline.querySelectorAll(".row")];
  if (rows.length <= MAX_ROWS) return;
  for (const row of rows.slice(MAX_ROWS)) row.remove();
  for (const day of timeline.querySelectorAll(".day:not(:has(.row))")) day.remove();
  const older = document.getElementById("older");
  older.href = older.href.replace(/\d+$/, rows[MAX_ROWS - 1].dataset.id);
  older.parentElement.hidden = false;
  document.getElementById("pruned")?.remove(); // it spoke of rows older than the dropped ones
}

// Modules that can wait until the stream is open. If loading them fails, the next message of the stream tries again.
let laterModules;

async function loadLater() {
  await import("./reader.js");
  return (await import("./instances.js")).refresh;
}

function onState(state) {
  isFinished = state.over;
  if (state.phase !== "connecting") laterModules ??= loadLater().catch(() => (laterModules = undefined));
  if (state.phase === "live" && (state.reset || state.cursor > cursor)) catchUp();
}

async function fetchRows() {
  const url = new URL(timeline.dataset.url, location.href);
  const after = cursor;
  url.searchParams.set("after", after);
  const response = await ask(url);
  const days = parsed(await response.text());
  if (after !== cursor) return true; // the list was fetched again meanwhile
  if (!response.headers.has("Dormouse-Cursor")) throw new Error("not from Dormouse");
  cursor = Number(response.headers.get("Dormouse-Cursor"));
  const rows = days.querySelectorAll(".row");
  const failed = days.querySelectorAll(".row.alert").length;
  if (response.headers.has("Dormouse-Reset")) dropHeld();
  if (rows.length || mustRedraw) hold(days, rows.length);
  if (rows.length) {
    if (document.hidden) countFailures(failed);
    if (!held.paused) announce(rows[1] ? countEvents(rows.length, failed) : rows[0].querySelector(".sentence").textContent);
  }
  return response.headers.get("Dormouse-More") === "true";
}

let isCatchingUp = false;
let hasMore = false;

// Fetches one page of rows at a time, and at most one a second in a burst.
async function catchUp() {
  hasMore = true;
  if (isCatchingUp) return;
  isCatchingUp = true;
  for (let retrySeconds = 1; hasMore && !isFinished; ) {
    hasMore = false; // before the request, because an event that comes meanwhile needs another one
    let error = null;
    try {
      if (await fetchRows()) hasMore = true;
      retrySeconds = 1;
    } catch (failure) {
      error = failure;
      hasMore = true;
    }
    noteFetch("Events", error);
    refresh();
    await pause(retrySeconds);
    if (error) retrySeconds = Math.min(2 * retrySeconds, MAX_RETRY_SECONDS);
  }
  isCatchingUp = false;
}

// The cards are fetched on their own, because leases, and what people start and stop, make no events.
function refresh() {
  if (!isFinished && !held.paused && !document.hidden) laterModules?.then((refreshInstances) => refreshInstances?.(isReading));
}

let isRedrawing = false;

// Fetches the list again: too many rows were held, rows between were pruned, or the time zone has changed.
async function redraw() {
  if (isRedrawing) return;
  isRedrawing = true;
  try {
    const response = await ask(location.href);
    const page = parsed(await response.text()).getElementById("timeline");
    timeline.removeAttribute("data-live");
    timeline.replaceChildren(...page.children);
    document.dispatchEvent(new Event("redrawn"));
    cursor = Number(page.dataset.cursor);
    clearHeld();
    catchUp();
  } catch {
    announce("The newest events could not be fetched");
  } finally {
    isRedrawing = false;
  }
}

function countFailures(more) {
  failures += more;
  document.title = failures ? `(${failures}) ${original.title}` : original.title;
  icon.href = failures ? icon.dataset.alert : original.icon;
}

function onVisibilityChange() {
  check();
  if (document.hidden) return;
  countFailures(-failures);
  refresh();
}

function setPaused(paused) {
  held.paused = paused;
  pauseButton.textContent = paused ? "Resume live updates" : "Pause live updates";
  history.replaceState({ ...history.state, paused }, ""); // kept over Back and reload
}

pauseButton.addEventListener("click", () => {
  setPaused(!held.paused);
  showState();
  showUnlessReading();
  refresh();
});
document.addEventListener("visibilitychange", onVisibilityChange);
button.addEventListener("click", () => {
  document.getElementById("activity-heading").focus();
  show();
});

feed.addEventListener("pointermove", () => (movedAt = Date.now()));
feed.addEventListener("pointerleave", showUnlessReading);
feed.addEventListener("focusout", () => setTimeout(showUnlessReading));
for (const change of ["selectionchange", "visibilitychange", "scrollend"]) document.addEventListener(change, showUnlessReading);
document.addEventListener("zone", () => {
  dropHeld();
  showUnlessReading();
});
setInterval(() => {
  check();
  if (mustPoll()) catchUp();
  showUnlessReading();
}, 1000);
setInterval(refresh, REFRESH_SECONDS * 1000);
pauseButton.disabled = false;
if (history.state?.paused) setPaused(true);
follow({ url: timeline.dataset.stream, cursor: () => cursor, onState });
