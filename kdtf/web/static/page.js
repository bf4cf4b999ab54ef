// The page: files in, a card of results for each; the only module that touches the document's text.

import { Unusable } from "./formats.js";
import { decode, pixelsOf } from "./picture.js";
import { setInWords } from "./sets.js";
import { judge, load, start, warnings } from "./student.js";

const PREVIEW = 352; // pixels of the longer side
const PHANTOM = "Learnt from a synthetic phantom: knows nothing about patients.";
const id = (name) => document.getElementById(name);
const say = (text) => (id("status").textContent = text);

/** A probability in percent; never 100.0 % or 0.0 % for what is not certain. */
function percent(p) {
  if (p > 0.9995 && p < 1) return "> 99.9\u00a0%";
  if (p < 0.0005 && p > 0) return "< 0.1\u00a0%";
  return `${(100 * p).toFixed(1)}\u00a0%`;
}

/** An element with properties and children; texts are never markup. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const problem = (text, list = "problems") => id(list).append(element("li", {}, text));

async function begin() {
  const { students: listed } = await (await fetch("students.json")).json();
  id("synthetic").hidden = !listed.every(({ card }) => card.synthetic); // else each says so of itself
  id("cards").append(...listed.map((own) => described(own, listed.length === 1)));
  await start();
  const students = [];
  for (const facts of listed) {
    try {
      students.push(await load(facts));
    } catch (error) {
      problem(`${facts.name} is not used: ${error.message}.`, "unused");
    }
  }
  if (!students.length) throw new Error("no student runs in this browser");
  const most = Math.max(...students.map((student) => student.difference));
  say(`Ready. On a test picture this device and the predictor differ by ${most.toFixed(4)} at most.`);
  return students;
}

/** The model card of a student, and what it cannot do: to be seen at once where it is the only one. */
function described({ name, card }, open) {
  const facts = Object.entries(card.facts).flatMap(([term, value]) => [
    element("dt", {}, term),
    element("dd", {}, value),
  ]);
  const limits = card.limits.map((sentence) => element("li", {}, sentence));
  const limited = limits.length ? [element("h3", {}, "Limits"), element("ul", { className: "limits" }, ...limits)] : [];
  const summary = element("summary", {}, name, element("span", { className: "soft headline" }, card.headline));
  if (card.synthetic) summary.append(element("span", { className: "soft phantom" }, PHANTOM));
  return element("details", { open }, summary, ...limited, element("dl", {}, ...facts));
}

/** Classify files one after another: files that come meanwhile wait their turn. */
function queue(students) {
  let [last, waiting] = [Promise.resolve(), 0];
  return (files) => {
    const taken = [...files]; // the browser empties its own list
    if (!waiting++) id("problems").replaceChildren();
    last = last.then(() => classify(students, taken)).finally(() => waiting--);
  };
}

async function classify(students, files) {
  let [done, told] = [0, ""];
  for (const [at, file] of files.entries()) {
    say(`Reading ${file.name}, ${at + 1} of ${files.length}.`);
    try {
      told = await show(students, file);
      done++;
    } catch (error) {
      const reason = error instanceof Unusable ? error.message : `cannot be classified (${error.message})`;
      problem(`${file.name} ${reason}.`);
    }
  }
  const skipped = files.length > done ? `, ${files.length - done} not` : "";
  say(`${done} of ${files.length} classified${skipped}. ${files.length === 1 ? told : ""}`);
}

/** Add the results of a file to the page; the verdicts in words. Throws where it cannot be used. */
async function show(students, file) {
  const picture = await decode(file);
  try {
    const [judged, sized] = [[], {}];
    for (const student of students) {
      const sides = student.card.input;
      if (picture.deep && sides.windowed) {
        throw new Unusable(`is grey in 16 bits, which ${student.name} reads through a window: use kdtf's predict`);
      }
      const pixels = (sized[Object.values(sides)] ??= pixelsOf(picture, sides)); // students of a size share them
      judged.push({ student, pixels, unlike: warnings(student, pixels, picture), ...(await judge(student, pixels)) });
    }
    const size = `${picture.width} × ${picture.height} px`;
    const made = element("article", { className: "card image" });
    made.append(element("h3", {}, file.name, " ", element("span", { className: "soft" }, size)));
    if (students.length > 1) made.append(element("p", { className: "agree" }, agreement(judged)));
    made.append(preview(picture, file.name), element("div", { className: "verdicts" }, ...judged.map(verdict)));
    id("list").append(made);
    id("found").hidden = false;
    const told = (one) => [`${one.student.name}: ${inWords(one)}`, ...setOf(one), ...one.unlike.map(sentence)];
    return judged.flatMap(told).join(" ");
  } finally {
    picture.close();
  }
}

function inWords({ student, probs, top, threshold, uncertain, tied }) {
  const nearest = `${student.card.classes[top]}, ${percent(probs[top])}`;
  if (tied) return `Uncertain. Another class is as likely as ${nearest}.`;
  return uncertain ? `Uncertain. Likeliest: ${nearest}, below its threshold of ${percent(threshold)}.` : `${nearest}.`;
}

/** [the prediction set in words]; [] of a student without sets. */
function setOf({ student, members }) {
  if (members === null) return [];
  const { classes, sets } = student.card;
  return [`Prediction set (${+(100 * sets.coverage).toPrecision(6)}\u00a0%): ${setInWords(members, classes)}.`];
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

/** Whether students agree: only those that know the same classes can. */
function agreement(judged) {
  const groups = new Map();
  for (const one of judged) {
    const classes = JSON.stringify([...one.student.card.classes].sort());
    groups.set(classes, [...(groups.get(classes) ?? []), one]);
  }
  const unsure = judged.filter((one) => one.uncertain).length;
  const doubt = unsure ? ` ${unsure} of ${judged.length} uncertain.` : "";
  return [...groups.values()].map((own) => agreementOf(own, groups.size > 1)).join(" ") + doubt;
}

/** Of students that know the same classes; by their names where others know other ones. */
function agreementOf(judged, named) {
  const names = judged.map(({ student }) => student.name).join(", ");
  if (judged.length === 1) return `${names} knows other classes and is compared with none.`;
  const same = new Set(judged.map(({ student, top }) => student.card.classes[top])).size === 1;
  return `${named ? `Of the same classes, ${names}: they` : "The students"} ${same ? "agree" : "disagree"}.`;
}

function verdict(one) {
  const { student, pixels, uncertain } = one;
  const { height, width } = student.card.input;
  const doubts = one.unlike.map((text) => element("li", {}, sentence(text)));
  return element(
    "section",
    { ariaLabel: student.name },
    element("h4", {}, student.name),
    ...(student.card.synthetic ? [element("p", { className: "phantom soft" }, PHANTOM)] : []),
    element("p", { className: uncertain ? "verdict uncertain" : "verdict" }, inWords(one)),
    ...setOf(one).map((text) => element("p", { className: "set" }, text)),
    element("ul", { className: "warn" }, ...doubts),
    table(one),
    element("p", { className: "seen soft" }, seen(pixels, student.card.input), `What it sees: ${width} × ${height} px`),
  );
}

function table({ student, probs, top }) {
  const rows = student.card.classes.map((name, k) => {
    const cut = student.card.thresholds[name] ?? null;
    const label = element("th", { scope: "row" }, ...breakable(name), track(probs[k], cut));
    const cells = [percent(probs[k]), cut === null ? "none" : percent(cut)].map((text) => element("td", {}, text));
    return element("tr", { className: k === top ? "top" : "" }, label, ...cells);
  });
  const head = ["Class", "Probability", "Threshold"].map((text) => element("th", { scope: "col" }, text));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}

/** A class name that breaks after its dots, dashes and underscores first. */
function breakable(name) {
  return name.split(/(?<=[-._])/).flatMap((part) => [part, element("wbr")]);
}

function track(p, cut) {
  const made = element("div", { className: "track" }, element("div", { className: "fill" }));
  made.firstChild.style.width = `${100 * p}%`;
  if (cut !== null) {
    made.append(element("div", { className: "mark" }));
    made.lastChild.style.left = `${100 * cut}%`;
  }
  return made;
}

function preview(picture, name) {
  const scale = Math.min(1, PREVIEW / Math.max(picture.width, picture.height));
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = element("canvas", { width, height, role: "img", ariaLabel: `Preview of ${name}` });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return canvas;
}

function seen(pixels, { height, width, channels }) {
  const canvas = element("canvas", { width, height, role: "img", ariaLabel: "The image as the student sees it" });
  const image = new ImageData(width, height);
  for (let i = 0; i < image.data.length; i++) {
    image.data[i] = i % 4 === 3 ? 255 : pixels[(i >> 2) * channels + (channels === 1 ? 0 : i % 4)];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function listen(add) {
  const input = id("files");
  input.disabled = false;
  input.addEventListener("change", () => {
    add(input.files);
    input.value = ""; // the same file may be chosen again
  });
  id("clear").addEventListener("click", () => {
    id("list").replaceChildren();
    id("problems").replaceChildren();
    id("found").hidden = true;
    say("Cleared.");
    input.focus();
  });
  addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length) add(event.dataTransfer.files);
    else problem("Nothing to read was dropped: drop files from this device.");
  });
}

// a file dropped too early must not open in place of the page
for (const name of ["dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", name === "dragover" && !id("files").disabled);
  });
}

try {
  listen(queue(await begin()));
} catch (error) {
  say(`The page cannot start: ${error.message}.`);
}
