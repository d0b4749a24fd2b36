// Small helpers for elements. Text is never parsed as markup.

export const $ = id => document.getElementById(id);

export function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children.filter(child => child !== null && child !== undefined && child !== ""));
  return node;
}

export function button(label, onClick, attributes = {}) {
  const node = el("button", {type: "button", ...attributes}, label);
  node.addEventListener("click", onClick);
  return node;
}

// navigator.clipboard exists only on https and localhost.
export async function copy(text, node) {
  const label = node.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", {readonly: ""});
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    node.focus();
  }
  node.textContent = "Copied";
  setTimeout(() => { node.textContent = label; }, 1500);
}

export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], {type}));
  el("a", {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
