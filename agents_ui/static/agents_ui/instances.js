// The cards of the Agents page. The server renders them, and an ETag tells whether they have changed.
import { ask, noteFetch } from "./stream.js";

const instances = document.getElementById("instances");
const timeline = document.getElementById("timeline");

let tag = "";
let isRefreshing = false;

export async function refresh(isReading) {
  if (isRefreshing) return;
  isRefreshing = true;
  try {
    const response = await ask(instances.dataset.url, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    noteFetch("Agents");
    if (response.status === 304) return;
    tag = response.headers.get("ETag");
    const drawn = new DOMParser().parseFromString(await response.text(), "text/html").body;
    const fold = drawn.querySelector(".fold");
    if (fold) fold.open = instances.querySelector(".fold")?.open ?? false;
    for (const menu of instances.querySelectorAll(".orders[open]")) {
      const again = drawn.querySelector(`#${CSS.escape(menu.id)}`);
      if (again) again.open = true;
    }
    if (drawn.innerHTML.trim() !== instances.innerHTML.trim()) replace(drawn, isReading()); // the first time there is no ETag
  } catch (error) {
    noteFetch("Agents", error);
  } finally {
    isRefreshing = false;
  }
}

// On a narrow screen the cards are above the list. If they change their height, the list that is being read must not move.
function replace(drawn, isReadingList) {
  const focused = instances.contains(document.activeElement) && document.activeElement;
  const top = timeline.getBoundingClientRect().top;
  instances.replaceChildren(...drawn.children);
  if (isReadingList && !focused) scrollBy(0, timeline.getBoundingClientRect().top - top);
  if (!focused) return;
  const again = document.getElementById(focused.id) ?? document.getElementById("instances-heading");
  again.focus({ preventScroll: true });
}
