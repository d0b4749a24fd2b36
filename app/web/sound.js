// A waveform with the languages of a song's windows on it.
import {el} from "./dom.js";
import {clock, nameOf, percent} from "./words.js";

const RATE_HZ = 8000; // enough for a picture, and little memory
const MAX_BYTES = 100e6;
const COLOURS = 8;

// (columns) peaks between 0 and 1; null where the browser cannot decode the file.
async function peaks(file, columns) {
  if (!file || file.size > MAX_BYTES || !globalThis.OfflineAudioContext) return null;
  try {
    const sound = await new OfflineAudioContext(1, 1, RATE_HZ).decodeAudioData(await file.arrayBuffer());
    const samples = sound.getChannelData(0), step = samples.length / columns;
    return Array.from({length: columns}, (_, i) => {
      let most = 0;
      for (let n = Math.floor(i * step); n < Math.floor((i + 1) * step); n++) most = Math.max(most, Math.abs(samples[n]));
      return most;
    });
  } catch { return null; }
}

function draw(canvas, values) {
  const width = canvas.width = canvas.clientWidth * devicePixelRatio, height = canvas.height = canvas.clientHeight * devicePixelRatio;
  const brush = canvas.getContext("2d"), column = width / values.length, most = Math.max(...values, 0.01);
  brush.fillStyle = getComputedStyle(canvas).getPropertyValue("--wave");
  values.forEach((value, i) => {
    const tall = Math.max(devicePixelRatio, height * value / most);
    brush.fillRect(i * column, (height - tall) / 2, Math.max(1, column * 0.7), tall);
  });
}

const leader = moment => moment.language === "und" ? moment.languages[0].code : moment.language;

function sentence(moment) {
  const [first, second] = moment.languages;
  const time = `${clock(moment.start_seconds)} to ${clock(moment.start_seconds + moment.seconds)}: `;
  if (moment.language === "zxx") return `${time}nothing is sung (${percent(moment.probability)})`;
  const next = second && second.probability >= 0.005 ? `, then ${second.name} (${percent(second.probability)})` : "";
  return time + (moment.language === "und" ? "not sure; " : "") + `${first.name} (${percent(first.probability)})${next}`;
}

// Languages by how many windows they lead → colours; grey is for what is not sung.
function colours(moments) {
  const counts = new Map();
  for (const code of moments.map(leader).filter(code => code !== "zxx")) counts.set(code, (counts.get(code) || 0) + 1);
  const order = [...counts].sort((a, b) => b[1] - a[1]).map(([code]) => code);
  return code => code === "zxx" ? "var(--zxx)" : `var(--lang${order.indexOf(code) % COLOURS})`;
}

function legend(moments, colour) {
  const seen = new Map(moments.map(m => [`${m.language === "und" ? "und" : ""} ${leader(m)}`, m]));
  return el("p", {class: "legend soft"}, ...[...seen.values()].map(m => {
    const chip = el("span", {class: m.language === "und" ? "chip und" : "chip", "aria-hidden": "true"});
    chip.style.setProperty("--colour", colour(leader(m)));
    const name = nameOf(leader(m), m.languages);
    return el("span", {}, chip, m.language === "und" ? `not sure, ${name} leads` : name);
  }));
}

// The timeline of an answer; arrow keys go from window to window.
export function timeline(answer, file) {
  const moments = answer.timeline || [];
  if (!moments.length) return [];
  const length = Math.max(answer.modalities.audio.seconds, ...moments.map(m => m.start_seconds + m.seconds));
  const colour = colours(moments), said = el("p", {class: "said soft"}, "Point at a window, or go through them with the arrow keys.");
  const spans = moments.map((moment, i) => {
    const node = el("button", {type: "button", class: moment.language === "und" ? "span und" : "span", tabindex: i ? "-1" : "0", "aria-label": sentence(moment)},
      moment.language === "und" ? "" : el("span", {}, leader(moment)));
    node.style.left = `${100 * moment.start_seconds / length}%`;
    node.style.width = `${100 * moment.seconds / length}%`;
    node.style.setProperty("--colour", colour(leader(moment)));
    const say = () => { said.textContent = sentence(moment); spans.forEach(other => other.classList.toggle("on", other === node)); };
    for (const event of ["focus", "click"]) node.addEventListener(event, say);
    node.addEventListener("pointermove", event => { if (event.movementX || event.movementY) say(); }); // not the page under a resting mouse
    return node;
  });
  const band = el("div", {class: "spans", role: "group", "aria-label": "Languages by time; arrow keys move"}, ...spans);
  band.addEventListener("keydown", event => {
    const at = spans.indexOf(document.activeElement), last = spans.length - 1;
    const to = {ArrowRight: Math.min(at + 1, last), ArrowLeft: Math.max(at - 1, 0), Home: 0, End: last}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    spans.forEach((span, i) => { span.tabIndex = i === to ? 0 : -1; });
    spans[to].focus();
  });
  const canvas = el("canvas", {"aria-hidden": "true", hidden: ""});
  peaks(file, Math.min(240, Math.floor(innerWidth / 4))).then(values => { if (values) { canvas.hidden = false; draw(canvas, values); } });
  return [el("h2", {}, "Timeline"), el("div", {class: "sound"}, canvas, band),
    el("p", {class: "times soft", "aria-hidden": "true"}, el("span", {}, clock(0)), el("span", {}, clock(length))), legend(moments, colour), said];
}
