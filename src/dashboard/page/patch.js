// Draws: makes the document what the page describes, and touches nothing that is so already. Focus, scroll and selection survive.

const SVG = "http://www.w3.org/2000/svg";
/** What each node was drawn from. @type {WeakMap<Node, VNode>} */
const drawn = new WeakMap();
/** By what each node is found again among its siblings. @type {WeakMap<Node, string>} */
const slots = new WeakMap();
/** Nodes that change with the clock. @type {Map<Element, (node: any) => void>} */
const ticking = new Map();

/** Describes an element: `h("p.class", { its: "attributes" }, "and", ["what", "is"], "in it")`. @param {string} what @param {any[]} kids @returns {VNode} */
function h(what, ...kids) {
  const [tag = "", ...kinds] = what.split(".");
  const given = kids[0]?.constructor === Object && !("kids" in kids[0]) ? kids.shift() : {};
  const props = kinds.length ? { class: kinds.join(" "), ...given } : given;
  return { tag, props, kids: kids.flat(9).filter(Boolean).map((kid) => (typeof kid === "number" ? `${kid}` : kid)) };
}

// Control codes, and characters that turn the direction of what follows.
// eslint-disable-next-line no-control-regex
const UNSEEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Shows what would be unseen. @param {string} text */
const visible = (text) =>
  text.replace(UNSEEN, (c) => (c < " " ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`));

let nodes = 0;
/** @param {Element} parent @param {Kid[]} kids */
function patch(parent, kids) {
  /** @type {Record<string, number>} */
  const counts = {};
  const wanted = kids.map((kid) => {
    if (kid instanceof Element) return slots.get(kid) ?? `node ${(nodes += 1)}`;
    const { tag, props } = typeof kid === "string" ? { tag: "#", props: {} } : kid;
    return "key" in props ? `${tag}:${props.key}` : `${tag} ${(counts[tag] = (counts[tag] ?? 0) + 1)}`;
  });
  const stays = new Set(wanted);
  /** @type {Map<string, ChildNode>} */
  const there = new Map();
  for (const node of [...parent.childNodes]) {
    const slot = slots.get(node) ?? "";
    // First what goes, so that nothing that stays has to move.
    if (stays.has(slot)) there.set(slot, node);
    else node.remove();
  }
  let at = parent.firstChild;
  kids.forEach((kid, index) => {
    const slot = wanted[index] ?? "";
    const node = there.get(slot) ?? make(kid, parent);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
    slots.set(node, slot);
    update(node, kid);
  });
}

/** @param {Kid} kid @param {Element} parent @returns {ChildNode} */
function make(kid, parent) {
  if (kid instanceof Element) return kid;
  if (typeof kid === "string") return document.createTextNode("");
  const isSvg = kid.tag === "svg" || parent.namespaceURI === SVG;
  return isSvg ? document.createElementNS(SVG, kid.tag) : document.createElement(kid.tag);
}

/** @param {any} node @param {Kid} kid */
function update(node, kid) {
  if (kid instanceof Element) return;
  if (typeof kid === "string") return setText(node, visible(kid));
  const { props } = kid;
  const before = drawn.get(node)?.props;
  drawn.set(node, kid);
  for (const name in before) if (!(name in props)) set(node, name, undefined);
  for (const name in props) if (before?.[name] !== props[name]) set(node, name, props[name]);
  if (!props["tick"]) patch(node, kid.kids);
  if (!before && props["focus"]) toFocus = node;
}
/** @type {HTMLElement | undefined} */
let toFocus;

/** Sets an attribute, a handler, or what it shows of the clock. @param {any} node @param {string} name @param {any} value */
function set(node, name, value) {
  if (name === "key" || name === "focus") return;
  if (name === "label") name = "aria-label";
  if (name === "tick") {
    if (!value) return void ticking.delete(node);
    ticking.set(node, value);
    value(node);
  } else if (name === "style") for (const property in value) node.style.setProperty(property, value[property]);
  else if (name === "value" || name.startsWith("on")) node[name] = value ?? null;
  else if ((value ?? false) === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : visible(`${value}`));
}

/** Draws the whole page. @param {Element} root @param {any[]} kids */
function redraw(root, kids) {
  const active = document.activeElement;
  /** @type {Element[]} */
  const around = [];
  for (let node = active; node && node !== document.body; node = node.parentElement) around.push(node);
  patch(root, h("", kids).kids);
  if (toFocus) toFocus.focus({ preventScroll: toFocus.tagName === "H1" });
  else if (active !== document.activeElement) {
    // A node that was moved lost its focus; one that went hands it to the section around it.
    focusOn(around.find((node) => node.isConnected && (node === active || node.hasAttribute("tabindex"))));
  }
  toFocus = undefined;
}

/** @param {Element | null | undefined} node */
function focusOn(node) {
  if (node instanceof HTMLElement && node.isConnected) node.focus({ preventScroll: true });
}

/** Lets time pass in what shows it. */
function tick() {
  for (const [node, show] of ticking) {
    if (node.isConnected) show(node);
    else ticking.delete(node);
  }
}

/** @param {Node} node @param {string} text */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
