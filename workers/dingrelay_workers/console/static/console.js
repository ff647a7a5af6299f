// Renews a page that is live: only where it is seen, and not while something in it is selected, open or in use, or once
// something was typed or ticked.
// Without this script every page works, and is as old as it was asked for.
"use strict";
// What a form has done is said once, and not by a page that is renewed or reloaded.
const shown = new URL(location.href);
if (shown.searchParams.has("done")) {
  shown.searchParams.delete("done");
  history.replaceState(null, "", shown);
}
// Keys: "/" leads to the search, "?" shows them; in a field, or while a character is composed, they are typed.
document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  const typed = "input:not([type=checkbox], [type=radio]), select, textarea";
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || target.matches(typed)) return;
  const search = "/／".includes(key) && document.querySelector("main [type=search]");
  const keys = "?？".includes(key) && document.getElementById("keys");
  if (search) search.select();
  if (keys) keys.togglePopover();
  if (search || keys) event.preventDefault();
});
// Filters that a person keeps, in this browser: each is a link to itself.
const FILTERS = "dingrelay filters", MOST_FILTERS = 20;
const readFilters = () => {
  try { return JSON.parse(localStorage.getItem(FILTERS)) || []; } catch { return []; }
};
const showFilters = () => {
  const row = document.querySelector("[data-filters]");
  if (!row) return;
  const filters = readFilters(), present = row.dataset.filters, isKept = filters.includes(present);
  const [keep, forget] = row.querySelectorAll("button");
  const write = (changed) => {
    localStorage.setItem(FILTERS, JSON.stringify(changed.slice(-MOST_FILTERS)));
    showFilters();
  };
  for (const link of row.querySelectorAll("a")) link.remove();
  for (const filter of filters) {
    const link = document.createElement("a");
    link.href = `?${new URLSearchParams({ q: filter })}`;
    link.textContent = filter;
    if (filter === present) link.setAttribute("aria-current", "true");
    keep.before(link, " ");
  }
  keep.hidden = !present || isKept;
  forget.hidden = !isKept;
  keep.onclick = () => write([...readFilters(), present]);
  forget.onclick = () => write(readFilters().filter((filter) => filter !== present));
  row.hidden = !present && !filters.length;
};
showFilters();
const main = document.querySelector("main[data-live]");
if (main) {
  const stale = document.getElementById("stale");
  let tag = "", asks = false, touched = false;
  main.addEventListener("input", () => { touched = true; });
  const busy = () =>
    touched ||
    document.visibilityState !== "visible" ||
    String(getSelection()) !== "" ||
    main.querySelector("details[open], dialog[open]") ||
    main.querySelector(":focus:not(.wide)") ||
    main.matches(":hover:has(a:hover)");
  const renew = async () => {
    if (asks || busy()) return;
    asks = true;
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const answer = await fetch(location.href, { headers, cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (answer.status === 304) { stale.hidden = true; return; }
      if (answer.redirected) { location.reload(); return; }
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("main");
      if (fresh && !busy()) {
        tag = answer.headers.get("ETag") || "";
        main.replaceChildren(...fresh.childNodes);
        showFilters();
        if (!("live" in fresh.dataset)) clearInterval(timer);
        stale.hidden = true;
      }
    } catch {
      stale.hidden = false;
    } finally {
      asks = false;
    }
  };
  const timer = setInterval(renew, 1000 * Number(main.dataset.live));
}
