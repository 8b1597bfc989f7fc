/* Renews the page in place: what has the focus keeps it, and nothing jumps. Where the receiver gives no
   answer, the page says since when it is out of date; an old number must not look like a new one.
   Times of day are shown in this browser's zone. */
"use strict";
(() => {
  const every = 1000 * Number(document.body.dataset.renew);
  const pictures = 1000 * Number(document.body.dataset.pictures);
  const stale = document.createElement("p");
  stale.id = "stale";
  stale.setAttribute("role", "alert");
  const seen = () => document.querySelector("header time").textContent;
  const parts = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const short = new Intl.DateTimeFormat(undefined, { ...parts, second: "2-digit" });
  const minute = new Intl.DateTimeFormat(undefined, { ...parts, weekday: "short", timeZoneName: "short" });
  const whole = new Intl.DateTimeFormat(undefined, { ...parts, second: "2-digit", weekday: "short", timeZoneName: "short" });
  const clocks = { short, minute };
  const shownAt = new WeakMap(), tries = new WeakMap();
  let timer = 0, busy = false;

  function localise(page) {
    for (const one of page.querySelectorAll("time[data-clock]"))
      one.textContent = (clocks[one.dataset.clock] || whole).format(new Date(one.dateTime));
    for (const one of page.querySelectorAll("[data-zone]"))
      one.textContent = whole.formatToParts(new Date()).find((part) => part.type === "timeZoneName").value;
  }

  /* A thumbnail that the busy receiver had no turn for is asked for again, a little later each time. */
  const notYet = Number(document.body.dataset.notYet);
  function look(image) {
    if (!(image instanceof HTMLImageElement) || !image.closest(".shot")) return;
    if (image.naturalWidth && image.naturalWidth !== notYet) {
      tries.delete(image);
      shownAt.set(image, performance.now());
      return;
    }
    const tried = tries.get(image) || 0;
    if (tried > 7) return;
    tries.set(image, tried + 1);
    // By another address: the browser would not ask for the same one again. The page's own stays in src.
    setTimeout(() => { image.srcset = image.getAttribute("src") + "&try=" + (tried + 1); }, 1500 * (tried + 1) * (0.5 + Math.random()));
  }
  for (const what of ["load", "error"]) document.addEventListener(what, (event) => look(event.target), true);
  for (const image of document.images) if (image.complete && image.src) look(image);

  function mayChange(name, node, how) {
    if (name === "value" && node === document.activeElement) return false;
    if (name === "srcset") return false;
    if (name !== "src" || how !== "update" || !node.closest(".shot")) return true;
    if (performance.now() - (shownAt.get(node) ?? -pictures) < pictures) return false;
    tries.delete(node);
    node.removeAttribute("srcset");
    return true;
  }

  function later() {
    clearTimeout(timer);
    if (every && !document.hidden) timer = setTimeout(renew, every);
  }

  async function renew() {
    if (busy) return;
    busy = true;
    let page = null, why = "no answer";
    try {
      const answer = await fetch(location.origin + location.pathname + location.search, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (answer.redirected) return void location.assign(answer.url); /* the log-in has ended */
      if (answer.ok) page = new DOMParser().parseFromString(await answer.text(), "text/html");
      else why = "it answers " + answer.status;
    } catch (error) { /* said below */ }
    if (page && page.querySelector("main")) {
      stale.remove();
      localise(page);
      const how = { callbacks: { beforeAttributeUpdated: mayChange } };
      for (const part of ["main", "header"]) Idiomorph.morph(document.querySelector(part), page.querySelector(part), how);
      document.title = page.title;
    } else {
      stale.textContent = "This page shows the state at " + seen() + ". The receiver cannot be reached (" + why + "); retrying.";
      if (!stale.isConnected) document.querySelector("main").before(stale);
    }
    busy = false;
    later();
  }

  localise(document);
  if (!every) return;
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : renew()));
  document.getElementById("renews").textContent =
    "This page updates every " + every / 1000 + " s, its pictures every " + pictures / 1000 + " s";
  later();
})();
