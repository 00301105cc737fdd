// The one script of the pages. Reading works without it; it adds live refresh, following logs, copy and keys.
"use strict";

(() => {
  const body = document.body;
  let source = null;
  let cursor = body.dataset.cursor || "";
  let pending = new Map();

  // Live: one event stream for the person. An event names a kind; the parts that show this kind are asked for again.
  function listen() {
    if (source || !body.dataset.events || !window.EventSource || document.hidden) return;
    source = new EventSource(body.dataset.events + (cursor ? `?after=${encodeURIComponent(cursor)}` : ""));
    source.addEventListener("change", (event) => {
      cursor = event.lastEventId || cursor;
      const change = JSON.parse(event.data);
      say(change);
      pending.set(change.kind, change);
      if (pending.size === 1) setTimeout(refresh, 150);
    });
    source.addEventListener("position", (event) => { cursor = event.lastEventId || cursor; });
  }

  function refresh() {
    const changes = pending;
    pending = new Map();
    if (!window.htmx) return;
    for (const kind of changes.keys()) window.htmx.trigger(body, `rw:${kind}`);
  }

  function say(change) {
    const region = document.getElementById("live");
    if (region && change.type) region.textContent = `${change.kind} ${change.name}: ${change.type}`;
  }

  // A hidden page gives its connection back: browsers allow six per host.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) { source.close(); source = null; } else { listen(); }
  });
  window.addEventListener("pagehide", () => { if (source) { source.close(); source = null; } });

  // Logs: lines of JSON from the REST interface, written as text.
  async function follow(element) {
    if (element.dataset.following) return;
    element.dataset.following = "yes";
    let offset = element.dataset.offset || "0";
    let wait = 1000;
    while (document.contains(element)) {
      const stop = new AbortController();
      const watch = setInterval(() => { if (!document.contains(element) || document.hidden) stop.abort(); }, 500);
      try {
        const answer = await fetch(`${element.dataset.follow}?follow=true&after=${offset}`, { signal: stop.signal });
        if (!answer.ok) return;
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          const lines = (rest + value).split("\n");
          rest = lines.pop();
          for (const line of lines) {
            if (!line) continue;
            const one = JSON.parse(line);
            offset = one.offset || offset;
            write(element, one.text);
          }
          wait = 1000;
        }
        if (element.dataset.ends === "yes") return;
      } catch (problem) {
        if (problem.name !== "AbortError" && problem.name !== "TypeError") return;
      } finally {
        clearInterval(watch);
      }
      do { await new Promise((done) => setTimeout(done, wait)); } while (document.hidden && document.contains(element));
      wait = Math.min(wait * 2, 15000);
    }
  }

  function write(element, text) {
    const end = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
    element.append(text.endsWith("\n") ? text : text + "\n");
    while (element.childNodes.length > 5000) element.firstChild.remove();
    if (end) element.scrollTop = element.scrollHeight;
  }

  // Copy buttons stand beside code only where the browser can copy.
  function dress(root) {
    for (const block of root.querySelectorAll(".copy")) {
      if (!navigator.clipboard || block.querySelector(":scope > button")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet small";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(block.querySelector("pre, code").textContent.replace(/\n$/, ""));
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
      block.append(button);
    }
    for (const log of root.querySelectorAll("[data-follow]")) {
      log.scrollTop = log.scrollHeight;
      follow(log);
    }
    for (const one of root.querySelectorAll("time[datetime]")) one.title = new Date(one.dateTime).toLocaleString();
  }

  // Keys on lists: j and k move, Enter opens, / goes to the search.
  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "/") {
      const search = document.querySelector("input[type=search]");
      if (search) { event.preventDefault(); search.focus(); search.select(); }
    } else if (event.key === "j" || event.key === "k") {
      const rows = [...document.querySelectorAll("[data-row] a.open, a.open[data-row]")];
      if (!rows.length) return;
      const at = rows.indexOf(document.activeElement);
      const next = at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + (event.key === "j" ? 1 : -1)));
      event.preventDefault();
      rows[next].focus();
    }
  }

  // A call may take long: say so, count, and let whoever waits stop waiting (the call itself goes on).
  let counting = null;
  function calling(form) {
    const line = form.querySelector("[data-calling]");
    const since = Date.now();
    const count = () => { line.querySelector("[data-elapsed]").textContent = ` for ${Math.round((Date.now() - since) / 1000)} s`; };
    line.querySelector("[data-elapsed]").textContent = "";
    clearInterval(counting);
    counting = setInterval(count, 1000);
    line.hidden = false;
    form.querySelector("[data-ended]").textContent = "";
    const before = document.getElementById("tried");
    if (before) before.hidden = true;
    tell("Calling");
  }

  function called(form, words) {
    clearInterval(counting);
    const line = form.querySelector("[data-calling]");
    if (line.contains(document.activeElement)) form.querySelector("[type=submit]").focus();
    line.hidden = true;
    form.querySelector("[data-ended]").textContent = words;
  }

  function tell(words) {
    const region = document.getElementById("live");
    if (region) region.textContent = words;
  }

  function tries() {
    const form = (event) => (event.target.matches && event.target.matches("form[data-try]") ? event.target : null);
    body.addEventListener("htmx:beforeRequest", (event) => { if (form(event)) calling(event.target); });
    body.addEventListener("htmx:sendAbort", (event) => {
      if (form(event)) called(event.target, "You stopped waiting. The call goes on; its end is listed with the calls.");
    });
    body.addEventListener("htmx:sendError", (event) => {
      if (form(event)) called(event.target, "The platform did not answer. Call again in a few seconds.");
    });
    // What failed is shown like what was answered, where it comes as the page of the function.
    body.addEventListener("htmx:beforeSwap", (event) => {
      const ours = event.detail.target && event.detail.target.id === "try";
      if (ours && event.detail.xhr.responseText.includes('id="tried"')) {
        clearInterval(counting);
        event.detail.shouldSwap = true;
        event.detail.isError = false;
      }
    });
    body.addEventListener("htmx:afterSwap", (event) => {
      const said = document.querySelector("#try [data-said]");
      if (!event.detail.requestConfig || event.detail.requestConfig.verb !== "post" || !said) return;
      tell(said.textContent);
      const wrong = document.querySelector("#try [aria-invalid=true]");
      if (wrong) wrong.focus();
      if (window.htmx) window.htmx.trigger(body, "rw:tick");
    });
    body.addEventListener("click", (event) => {
      const stop = event.target.closest("[data-stop]");
      if (stop && window.htmx) window.htmx.trigger(stop.form, "htmx:abort");
    });
  }

  // A refresh replaces parts of the page: what was opened stays open, what was typed stays, and whoever moved by
  // keyboard stays where they were.
  function refreshes() {
    let held = null;
    let folds = new Map();
    const typed = (field) => ("value" in field && field.type !== "checkbox" ? field.value !== field.defaultValue : false);
    body.addEventListener("htmx:beforeSwap", (event) => {
      const target = event.detail.target;
      const active = document.activeElement;
      if (!target || !event.detail.requestConfig || event.detail.requestConfig.verb !== "get") return;
      if ([...target.querySelectorAll("input")].some(typed)) { event.detail.shouldSwap = false; return; }
      const chosen = [...target.querySelectorAll("details[id]")].filter((one) => one.open !== ("open" in one.dataset));
      folds = new Map(chosen.map((one) => [one.id, one.open]));
      if (!target.contains(active)) return;
      if (active.getAttribute("href")) held = `main a[href="${CSS.escape(active.getAttribute("href"))}"]`;
      else if (active.matches("details[id] > summary")) held = `#${CSS.escape(active.parentElement.id)} > summary`;
    });
    body.addEventListener("htmx:afterSwap", () => {
      dress(document);
      for (const [id, open] of folds) { const one = document.getElementById(id); if (one) one.open = open; }
      if (held && document.activeElement === body) {
        const again = document.querySelector(held);
        if (again) again.focus({ preventScroll: true });
      }
      held = null;
      folds = new Map();
    });
  }

  // A folded part that the address names is open. Browsers do this by themselves, some only of late.
  function reveal() {
    const named = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    let shut = 0;
    for (let at = named; at; at = at.parentElement) if (at.tagName === "DETAILS" && !at.open) { at.open = true; shut += 1; }
    if (shut) named.scrollIntoView();
  }

  const units = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  function ages() {
    for (const one of document.querySelectorAll("time[datetime]")) {
      const gap = (Date.now() - new Date(one.dateTime)) / 1000;
      if (gap < 5) { if (gap > -5) one.textContent = "just now"; continue; }
      const [size, word] = units.find(([seconds]) => gap >= seconds);
      const count = Math.floor(gap / size);
      one.textContent = `${count} ${word}${count === 1 ? "" : "s"} ago`;
    }
  }

  function start() {
    dress(document);
    listen();
    setInterval(ages, 5000);
    // Calls of functions are no events (there are too many): parts that show them look again now and then.
    setInterval(() => { if (!document.hidden && window.htmx) window.htmx.trigger(body, "rw:tick"); }, 4000);
    document.addEventListener("keydown", keys);
    refreshes();
    reveal();
    window.addEventListener("hashchange", reveal);
    body.addEventListener("click", (event) => { if (event.target.closest('a[href^="#"]')) setTimeout(reveal); });
    // A thing that was removed meanwhile has no part any more: show what the platform says about it.
    body.addEventListener("htmx:responseError", (event) => {
      if ([401, 404].includes(event.detail.xhr.status)) location.reload();
    });
    tries();
    const wrong = document.querySelector("[aria-invalid=true]");
    if (wrong) wrong.focus();
  }
  start();
})();
