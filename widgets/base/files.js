// Text to the clipboard, bytes to a file: what the recipe, the export and the address share.

// Resolves to whether it worked. The old way still works where a page without https has no clipboard.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* not allowed, or not there */ }
  const area = element("textarea", { readonly: true, "aria-hidden": "true", style: "position:fixed;top:0;left:-100vw" });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  let done = false;
  try { done = document.execCommand("copy"); } catch { /* nor the old way */ }
  area.remove();
  focused?.focus?.();
  return done;
}

function saveFile(name, parts, type = "application/octet-stream") {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const link = element("a", { href: url, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// A button that says for two seconds that it has done its work.
function copyButton(text, label, read) {
  const node = button(text, { "aria-label": label, "aria-live": "polite" });
  let timer = 0;
  node.addEventListener("click", async () => {
    const done = await copyText(read());
    clearTimeout(timer);
    node.style.minWidth = `${node.offsetWidth}px`;
    node.textContent = done ? "Copied" : "Not allowed";
    timer = setTimeout(() => { node.textContent = text; node.style.minWidth = ""; }, 2000);
  });
  return node;
}
