// The instances of the Agents page: the server draws them, and tells by an ETag whether they are still the same.
import { ask } from "./stream.js";

const instances = document.getElementById("instances");
const timeline = document.getElementById("timeline");

let tag = "";
let isRefreshing = false;

export async function refresh(isRead) {
  if (isRefreshing) return;
  isRefreshing = true;
  try {
    const response = await ask(instances.dataset.url, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (response.status === 304) return;
    tag = response.headers.get("ETag");
    const drawn = new DOMParser().parseFromString(await response.text(), "text/html").body;
    if (drawn.innerHTML.trim() !== instances.innerHTML.trim()) replace(drawn, isRead()); // the first time there is no tag
  } catch {
    // the stream says that the server is gone
  } finally {
    isRefreshing = false;
  }
}

// On a narrow screen they stand above the list: what is read there stays where it is.
function replace(drawn, isListRead) {
  const focused = instances.contains(document.activeElement) && document.activeElement;
  const top = timeline.getBoundingClientRect().top;
  instances.replaceChildren(...drawn.children);
  if (isListRead && !focused) scrollBy(0, timeline.getBoundingClientRect().top - top);
  if (!focused) return;
  const again = document.getElementById(focused.id) ?? document.getElementById("instances-heading");
  again.focus({ preventScroll: true });
}
