// Saves a draft by itself, a moment after the last change. Without this script its buttons do.
"use strict";
const form = document.querySelector("form[data-autosave]");
if (form) {
  const PAUSE = 1500, AGAIN = 5000;
  // Bytes of a request that outlives its page (64 KiB), with room for others.
  const OUTLIVES = 60000;
  const say = (text) => { document.getElementById("saved").textContent = text; };
  let timer, changed = false, saving = null, over = false, expired = false, passes = false;
  const later = (pause) => { clearTimeout(timer); timer = setTimeout(save, pause); };
  const fields = () => {
    const texts = new URLSearchParams([...new FormData(form)].filter(([, value]) => typeof value === "string"));
    texts.set("then", "");
    return texts;
  };
  const parsed = async (answer) => {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return [page, page.querySelector("form[data-autosave]")];
  };
  const send = async () => {
    changed = false;
    try {
      if (expired) {
        // Another session takes no form of the old one.
        const [, fresh] = await parsed(await fetch(form.action));
        if (fresh) { form.elements.form.value = fresh.elements.form.value; expired = false; }
      }
      const body = fields();
      const answer = await fetch(form.action, { method: "POST", body, keepalive: String(body).length < OUTLIVES });
      expired = new URL(answer.url).pathname.endsWith("/sign-in");
      const [page, fresh] = await parsed(answer);
      if (answer.status === 409) {
        over = true;
        say(`${page.querySelector("h1").textContent}. ${form.dataset.conflict}`);
        return;
      }
      if (!fresh) throw new Error(answer.status);
      form.elements.form.value = fresh.elements.form.value;
      // Other forms of the page go on from this version, too.
      for (const each of document.querySelectorAll("[name=version]")) each.value = fresh.elements.version.value;
      const refused = answer.status === 422;
      const shown = ["standing", "saved", "preview", "pasted-people", "without_pasted-people"];
      // What is still to be filled in is said by the button that goes on; what was mended is no more said.
      if (refused || document.querySelector("#problems > *")) shown.push("problems");
      for (const id of shown) {
        const there = page.getElementById(id);
        if (there) document.getElementById(id)?.replaceWith(there);
      }
      for (const wrong of form.querySelectorAll(".wrong")) {
        if (page.getElementById(wrong.id)) continue;
        form.querySelector(`[aria-describedby="${wrong.id}"]`)?.removeAttribute("aria-invalid");
        wrong.remove();
      }
      if (refused) say(form.dataset.refused);
    } catch {
      changed = true;
      say(expired ? form.dataset.expired : form.dataset.failed);
      later(AGAIN);
    }
  };
  const save = async () => {
    clearTimeout(timer);
    if (changed && !saving && !over) saving = send();
    await saving;
    saving = null;
  };
  form.addEventListener("input", () => { changed = true; later(PAUSE); });
  form.addEventListener("change", ({ target }) => {
    if (target.closest(".upload")) form.requestSubmit(target.parentElement.querySelector("button"));
  });
  // Buttons that write Markdown; what they write can be undone.
  const write = (text, piece, from, to) => {
    text.focus();
    text.setSelectionRange(from, to);
    if (document.execCommand("insertText", false, piece)) return;
    text.setRangeText(piece, from, to, "end");
    text.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const use = (text, { before, after, words, line }) => {
    const { selectionStart: from, selectionEnd: to, value } = text;
    if (line) {
      const start = value.lastIndexOf("\n", from - 1) + 1;
      write(text, value.slice(start, to).replace(/^/gm, line), start, to);
      return;
    }
    const inner = value.slice(from, to) || words;
    write(text, before + inner + after, from, to);
    text.setSelectionRange(from + before.length, from + before.length + inner.length);
  };
  const shelf = form.querySelector(".shelf");
  let last = null;
  for (const text of form.querySelectorAll("[data-markdown]")) {
    const bar = document.getElementById("tools").content.cloneNode(true).firstElementChild;
    text.before(bar);
    text.addEventListener("focus", () => { last = text; });
    text.addEventListener("keydown", (event) => {
      if (event.key !== "b" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      use(text, bar.querySelector("button").dataset);
    });
    bar.addEventListener("click", ({ target }) => {
      const tool = target.closest("button");
      if (!tool) return;
      if (!("picture" in tool.dataset)) { use(text, tool.dataset); return; }
      last = text;
      if (!shelf) { form.elements[`file.${text.name}`].click(); return; }
      shelf.open = true;
      shelf.querySelector("button").focus();
    });
  }
  shelf?.addEventListener("click", (event) => {
    const picture = event.target.closest("button");
    if (!picture || !last?.checkVisibility()) return;
    event.preventDefault();
    write(last, `\n![${picture.title.replace(/[\][()]/g, "")}](${picture.value})\n`, last.selectionEnd, last.selectionEnd);
  });
  document.addEventListener("visibilitychange", () => { if (document.visibilityState === "hidden") save(); });
  addEventListener("beforeunload", (event) => {
    if ((changed || saving) && !over && String(fields()).length >= OUTLIVES) event.preventDefault();
  });
  document.addEventListener("submit", async (event) => {
    const { target, submitter } = event;
    if (target === form && !saving) {
      over = true;  // this form has all that was typed
    } else if (saving || (changed && !over && !passes)) {
      event.preventDefault();
      await save();
      if (target === form || !changed) { target.requestSubmit(submitter); return; }
      passes = true;
      say(form.dataset.unsaved);
    }
  });
}
