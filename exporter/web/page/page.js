// Keeps the page current: fetches it again every few seconds and changes in place what differs, so that focus, the
// chosen state and the reader's place stay. All texts come from the server, escaped; nothing here writes HTML.
"use strict";
(() => {
  const lost = document.getElementById("lost");
  const said = document.getElementById("said");
  const navigation = performance.getEntriesByType("navigation")[0];
  document.documentElement.classList.add("scripted"); // what only works with it may be seen
  let received = navigation ? navigation.responseEnd : performance.now();
  let age = ageShown();
  let trouble = "";
  let fetching = false;

  function ageShown() {
    const shown = document.getElementById("age");
    return shown ? Number(shown.dataset.age) : NaN;
  }

  // Make the element `here` like `there`. What has data-own is the script's.
  function change(here, there) {
    if (here.isEqualNode(there) || (here.dataset && "own" in here.dataset)) return;
    for (const { name } of [...here.attributes])
      if (name !== "open" && !there.hasAttribute(name)) here.removeAttribute(name); // what the reader opened stays open
    for (const { name, value } of there.attributes)
      if (here.getAttribute(name) !== value) here.setAttribute(name, value);
    let child = here.firstChild;
    for (const wanted of [...there.childNodes]) {
      const kept = wanted.id && [...here.children].find((each) => each.id === wanted.id);
      while (kept && child !== kept) child = removed(child);
      if (child && child.nodeType === wanted.nodeType && child.nodeName === wanted.nodeName && child.id === wanted.id) {
        if (child.nodeType === Node.ELEMENT_NODE) change(child, wanted);
        else if (child.data !== wanted.data) {
          child.data = wanted.data;
          if (here.classList.contains("count")) flash(here);
        }
        child = child.nextSibling;
      } else {
        here.insertBefore(document.importNode(wanted, true), child);
      }
    }
    while (child) child = removed(child);
  }

  function removed(child) {
    const next = child.nextSibling;
    child.remove();
    return next;
  }

  function flash(element) {
    element.classList.add("changed");
    element.addEventListener("animationend", () => element.classList.remove("changed"), { once: true });
  }

  async function update() {
    if (fetching || document.hidden) return;
    fetching = true;
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(`it answered ${answer.status}`);
      nameOwn(answer.headers.get("Client-Address"));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const before = document.getElementById("status").textContent;
      received = performance.now();
      document.title = page.title;
      change(document.querySelector("link[rel=icon]"), page.querySelector("link[rel=icon]"));
      for (const part of ["header", "main", "footer"]) change(document.querySelector(part), page.querySelector(part));
      document.body.dataset.every = page.body.dataset.every;
      age = ageShown();
      trouble = "";
      const after = document.getElementById("status").textContent;
      if (after !== before) said.textContent = `The status is now ${after}; it was ${before}.`;
    } catch (error) {
      trouble = error.message || String(error);
    }
    fetching = false;
    tick();
  }

  // Counts the age on, and says when no answer came in time: numbers that stand still must not look fresh.
  function tick() {
    const since = (performance.now() - received) / 1000;
    const shown = document.getElementById("age");
    if (shown && age === age) shown.textContent = `${Math.round(age + since)} s ago`;
    const gone = !document.hidden && since > 3 * Number(document.body.dataset.every) + 1;
    document.documentElement.classList.toggle("lost", gone);
    const words = gone
      ? `The daemon has not answered for ${Math.round(since)} s${trouble && ` (${trouble})`}. The values below are that old.`
      : "";
    if (lost.hidden === gone) lost.hidden = !gone;
    if (lost.textContent !== words) lost.textContent = words;
  }

  // The reader's own connection is among those that are counted; only the answer's header knows which it is.
  function nameOwn(address) {
    const own = document.getElementById("own");
    if (!own || !address) return;
    own.hidden = false;
    own.textContent = /^(127\.|\[::1\])/.test(address)
      ? `Yours is among them, both ends of it: this page is read from ${address}.`
      : `Yours is among them: this page is read from ${address}.`;
  }

  // Copies a command. Without a secure context there is no clipboard: it is selected then, and copied the old way.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    const code = button.parentNode.querySelector("code");
    const copied = (await wrote(code.textContent)) || selected(code);
    button.textContent = copied ? "Copied" : "Selected";
    said.textContent = copied ? "The command was copied." : "The command is selected: copy it with Ctrl+C.";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });

  async function wrote(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return false;
    }
  }

  function selected(element) {
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }

  // Choosing a state: the address changes as without a script, but focus and place stay where the diagram is.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('.machine a[href^="#state-"]');
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const name = link.getAttribute("href");
    const left = scrollX, top = scrollY;
    location.replace(name);
    const panel = document.querySelector(name);
    if (panel.getBoundingClientRect().left > link.ownerSVGElement.getBoundingClientRect().right) {
      scrollTo(left, top);
      link.focus({ preventScroll: true });
      said.textContent = `Shown: ${panel.querySelector("h3 span").textContent}`;
    }
  });

  let next = 0;
  setInterval(() => {
    tick();
    if (performance.now() >= next) {
      next = performance.now() + 1000 * Number(document.body.dataset.every) - 50;
      update();
    }
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) update();
  });
})();
