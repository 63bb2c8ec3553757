// The Agents page, live. The stream is only a hint that the log has grown: the rows come from the server, after the cursor.
import { announce, ask, check, follow, held, pause, say } from "./stream.js";

const REFRESH_SECONDS = 10;
const MOST_ROWS = 500;
const MOST_HELD = 100;
const CROWD_ROWS = 10;

const timeline = document.getElementById("timeline");
const feed = document.getElementById("feed");
const button = document.getElementById("show");
const pauseButton = document.getElementById("pause");
const icon = document.querySelector("link[rel=icon]");
const parsed = (html) => new DOMParser().parseFromString(html, "text/html");
const plain = { title: document.title, icon: icon.href };

let cursor = Number(timeline.dataset.cursor);
let isOver = false;
let failures = 0; // that nobody has seen, in a hidden tab

let fragments = []; // oldest first; none beyond MOST_HELD
let isTorn = false; // what is held would not fill the gap: the list must be drawn anew

// Whether somebody reads in the list, so that nothing there may move.
function isRead() {
  const selection = getSelection();
  return (
    held.paused ||
    document.hidden ||
    feed.getBoundingClientRect().top < 0 ||
    timeline.contains(document.activeElement) ||
    document.activeElement === button ||
    (matchMedia("(hover)").matches && feed.matches(":hover")) || // a finger hovers until the next tap
    (!selection.isCollapsed && selection.containsNode(timeline, true))
  );
}

function take(days, count) {
  fragments = isTorn ? [] : [...fragments, days];
  held.rows += count;
  showIfUnread();
  if (held.rows > MOST_HELD) tear();
}

function tear() {
  fragments = [];
  isTorn = true;
}

function showIfUnread() {
  if ((held.rows || isTorn) && !isRead()) show();
  button.hidden = !held.rows && !isTorn;
  button.textContent = held.rows ? `Show ${held.rows} new event${held.rows === 1 ? "" : "s"}` : "Show the newest events";
}

function show() {
  if (isTorn) return redraw();
  document.getElementById("empty")?.remove();
  timeline.toggleAttribute("data-live", held.rows < CROWD_ROWS); // what arrives is tinted for a moment; no crowd is
  if (held.rows >= CROWD_ROWS) showFirstWhatIsInSight(fragments.flatMap((days) => [...days.querySelectorAll(".row")]));
  for (const days of fragments) [...days.querySelectorAll(".day")].reverse().forEach(prepend);
  trim();
  forget();
}

// A hundred rows take a phone twice as long to lay out as it may take to answer a tap.
function showFirstWhatIsInSight(rows) {
  for (const row of rows) row.classList.add("late");
  requestAnimationFrame(() => setTimeout(() => rows.forEach((row) => row.classList.remove("late"))));
}

function forget() {
  fragments = [];
  isTorn = false;
  held.rows = 0;
  button.hidden = true;
}

function prepend(day) {
  const newest = timeline.querySelector(".day");
  if (newest?.dataset.day === day.dataset.day) newest.querySelector(".rows").prepend(...day.querySelectorAll(".row"));
  else timeline.prepend(day);
}

function trim() {
  const rows = [...timeline.querySelectorAll(".row")];
  if (rows.length <= MOST_ROWS) return;
  for (const row of rows.slice(MOST_ROWS)) row.remove();
  for (const day of timeline.querySelectorAll(".day:not(:has(.row))")) day.remove();
  const older = document.getElementById("older");
  older.href = older.href.replace(/\d+$/, rows[MOST_ROWS - 1].dataset.id);
  older.parentElement.hidden = false;
  document.getElementById("pruned")?.remove(); // of what is older than that
}

// What can wait until the stream is there; where the server goes away just then, until the next word from it.
let later;

async function loadMore() {
  await import("./reader.js");
  return (await import("./instances.js")).refresh;
}

function hear(news) {
  isOver = news.over;
  if (news.phase !== "connecting") later ??= loadMore().catch(() => (later = undefined));
  if (news.phase === "live" && (news.reset || news.cursor > cursor)) catchUp();
}

async function fetchRows() {
  const url = new URL(timeline.dataset.url, location.href);
  const after = cursor;
  url.searchParams.set("after", after);
  const response = await ask(url);
  const days = parsed(await response.text());
  if (after !== cursor) return true; // the page was drawn anew meanwhile
  if (!response.headers.has("Dormouse-Cursor")) throw new Error("not from Dormouse");
  cursor = Number(response.headers.get("Dormouse-Cursor"));
  const rows = days.querySelectorAll(".row");
  if (response.headers.has("Dormouse-Reset")) tear();
  if (rows.length || isTorn) take(days, rows.length);
  if (rows.length) {
    if (document.hidden) count(days.querySelectorAll(".row.alert").length);
    if (!held.paused) announce(rows[1] ? `${rows.length} new events` : rows[0].querySelector(".sentence").textContent);
  }
  return response.headers.get("Dormouse-More") === "true";
}

let isCatchingUp = false;
let isBehind = false;

// One at a time, and at most one a second in a burst.
async function catchUp() {
  isBehind = true;
  if (isCatchingUp) return;
  isCatchingUp = true;
  while (isBehind && !isOver) {
    isBehind = false; // before asking: what comes meanwhile is asked for again
    try {
      if (await fetchRows()) isBehind = true;
    } catch {
      isBehind = true;
    }
    refresh();
    await pause(1);
  }
  isCatchingUp = false;
}

// Starts, leases and what others stop make no events.
function refresh() {
  if (!isOver && !held.paused && !document.hidden) later?.then((refreshInstances) => refreshInstances?.(isRead));
}

let isRedrawing = false;

// When more was held than can be put in, when the log has lost what would come between, or in another zone.
async function redraw() {
  if (isRedrawing) return;
  isRedrawing = true;
  try {
    const response = await ask(location.href);
    const page = parsed(await response.text()).getElementById("timeline");
    timeline.removeAttribute("data-live");
    timeline.replaceChildren(...page.children);
    cursor = Number(page.dataset.cursor);
    forget();
    catchUp();
  } catch {
    announce("The newest events could not be fetched");
  } finally {
    isRedrawing = false;
  }
}

function count(more) {
  failures += more;
  document.title = failures ? `(${failures}) ${plain.title}` : plain.title;
  icon.href = failures ? icon.dataset.alert : plain.icon;
}

function wake() {
  check();
  if (document.hidden) return;
  count(-failures);
  refresh();
}

pauseButton.addEventListener("click", () => {
  held.paused = !held.paused;
  pauseButton.textContent = held.paused ? "Resume live updates" : "Pause live updates";
  say();
  showIfUnread();
  refresh();
});
document.addEventListener("visibilitychange", wake);
button.addEventListener("click", () => {
  document.getElementById("activity-heading").focus();
  show();
});

feed.addEventListener("pointerleave", showIfUnread);
feed.addEventListener("focusout", () => setTimeout(showIfUnread));
for (const change of ["selectionchange", "visibilitychange", "scrollend"]) document.addEventListener(change, showIfUnread);
document.addEventListener("zone", () => {
  tear();
  showIfUnread();
});
setInterval(check, 1000);
setInterval(refresh, REFRESH_SECONDS * 1000);
pauseButton.disabled = false;
follow({ url: timeline.dataset.stream, cursor: () => cursor, hear });
