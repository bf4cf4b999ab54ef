// Prediction sets: which classes an image may be of. kdtf's predictor.py, number by number; touches no page.

/** How well an image fits each class: kdtf's `fits`, which adds up in the same order, to the same bits. */
export function fits(probs, method) {
  if (method === "threshold") return probs;
  return probs.map((p) => probs.reduce((total, own) => (own <= p ? total + own : total), 0));
}

/** The numbers of the classes in the set of an image; null of a student without sets. */
export function predictionSet(probs, sets) {
  if (!sets) return null;
  const inside = (fit, k) => sets.quantiles[k] === null || fit >= sets.quantiles[k];
  return fits(probs, sets.method).flatMap((fit, k) => (inside(fit, k) ? [k] : []));
}

/** A set in the predictor's words, those with a reason. */
export function setInWords(members, classes) {
  if (!members.length) return "no class: most images of every class fit better";
  if (members.length === classes.length && members.length > 1) return "any class: it tells nothing";
  const names = members.map((k) => classes[k]);
  const last = names.pop();
  return names.length ? `${names.join(", ")} or ${last}` : last;
}
