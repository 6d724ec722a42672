// Draws: makes the document what the page describes, and touches nothing that is so already. Focus, scroll and selection survive.

const SVG = "http://www.w3.org/2000/svg";
/** What each node was drawn from. @type {WeakMap<Node, VNode>} */
const drawn = new WeakMap();
/** By what each node is found again among its siblings. @type {WeakMap<Node, string>} */
const slots = new WeakMap();
/** Nodes that change with the clock. @type {Map<Element, (node: any) => void>} */
const ticking = new Map();

/** What is to be drawn: an element. */
class Wanted {
  /** @param {string} tag @param {Record<string, any>} props @param {Kid[]} kids */
  constructor(tag, props, kids) {
    Object.assign(this, { tag, props, kids });
  }
}

/** Describes an element: `h("p.class", {its: "attributes"}, "and", ["what", "is"], "in it")`. @param {string} what @param {any[]} kids @returns {VNode} */
function h(what, ...kids) {
  const [tag = "", ...classes] = what.split(".");
  const props = kids[0]?.constructor === Object ? kids.shift() : {};
  const isIt = (/** @type {any} */ kid) => kid || kid === 0;
  return /** @type {any} */ (new Wanted(tag, classes.length ? { class: classes.join(" "), ...props } : props, kids.flat(9).filter(isIt).map((kid) => (typeof kid === "number" ? String(kid) : kid))));
}

// Control codes, and characters that turn the direction of what follows.
// eslint-disable-next-line no-control-regex
const UNSEEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Shows what would be unseen. @param {string} text */
const visible = (text) =>
  text.replace(UNSEEN, (c) => {
    const code = c.charCodeAt(0);
    return code < 32 ? String.fromCharCode(0x2400 + code) : code === 127 ? "\u2421" : `\\u${code.toString(16).padStart(4, "0")}`;
  });

/** @param {Element} parent @param {Kid[]} kids */
function patch(parent, kids) {
  /** @type {Record<string, number>} */
  const counts = {};
  const wanted = kids.map((kid) => {
    if (kid instanceof Element) return slots.get(kid) ?? `node ${(ticket += 1)}`;
    const tag = typeof kid === "string" ? "#" : kid.tag;
    const key = typeof kid === "string" ? undefined : kid.props.key;
    return key === undefined ? `${tag} ${(counts[tag] = (counts[tag] ?? 0) + 1)}` : `${tag}:${key}`;
  });
  const stays = new Set(wanted);
  /** @type {Map<string, ChildNode>} */
  const there = new Map();
  for (const node of [...parent.childNodes]) {
    const slot = slots.get(node);
    // First what goes, so that nothing that stays has to move.
    if (slot !== undefined && stays.has(slot)) there.set(slot, node);
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
let ticket = 0;

/** @param {Kid} kid @param {Element} parent @returns {ChildNode} */
function make(kid, parent) {
  if (kid instanceof Element) return kid;
  if (typeof kid === "string") return document.createTextNode("");
  const isSvg = kid.tag === "svg" || parent.namespaceURI === SVG;
  return isSvg ? document.createElementNS(SVG, kid.tag) : document.createElement(kid.tag);
}

/** @param {ChildNode} node @param {Kid} kid */
function update(node, kid) {
  if (kid instanceof Element) return;
  if (typeof kid === "string") {
    const text = visible(kid);
    if (node instanceof Text && node.data !== text) node.data = text;
    return;
  }
  const element = /** @type {HTMLElement} */ (node);
  const before = drawn.get(node)?.props;
  drawn.set(node, kid);
  for (const name in before) if (!(name in kid.props)) set(element, name, undefined);
  for (const name in kid.props) if (before?.[name] !== kid.props[name]) set(element, name, kid.props[name]);
  if (!kid.props["tick"]) patch(element, kid.kids);
  if (!before && kid.props["focus"]) toFocus = element;
}
/** @type {HTMLElement | undefined} */
let toFocus;

/** @param {HTMLElement} node @param {string} name @param {any} value */
function set(node, name, value) {
  if (name === "key" || name === "focus") return;
  if (name === "tick") {
    ticking.set(node, value);
    value(node);
  } else if (name === "style") for (const property in value) node.style.setProperty(property, value[property]);
  else if (name === "value" || name.startsWith("on")) /** @type {any} */ (node)[name] = value ?? null;
  else if (value === undefined || value === null || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : visible(String(value)));
}

/** Draws the whole page. @param {Element} root @param {Kids[]} kids */
function redraw(root, kids) {
  const active = document.activeElement;
  /** @type {Element[]} */
  const around = [];
  for (let node = active; node && node !== document.body; node = node.parentElement) around.push(node);
  patch(root, h("", kids).kids);
  if (toFocus) toFocus.focus({ preventScroll: toFocus.tagName === "H1" });
  else if (active && active !== document.activeElement && around.length) {
    // A node that was moved lost its focus; one that went hands it to the section around it.
    const next = around.find((node) => node.isConnected && (node === active || node.getAttribute("tabindex")));
    if (next instanceof HTMLElement) next.focus({ preventScroll: true });
  }
  toFocus = undefined;
}

/** Lets time pass in what shows it. */
function tick() {
  for (const [node, show] of ticking) {
    if (node.isConnected) show(node);
    else ticking.delete(node);
  }
}

/** @param {Element} node @param {string} text */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
