// Which two models stand side by side. It knows what GET /models answers, no document.

const ROLES = ["ensemble", "specialists", "member", "baseline", "student"];

/** The models in the order of the table: those of a recipe together, from the ensemble to the student. */
export function inOrder(models) {
  const recipe = ({ name }) => name.replace(new RegExp(`-(${ROLES.join("|")})(?=-|$)`), "");
  const key = (model) => `${recipe(model)} ${ROLES.indexOf(model.role)} ${model.name}`;
  return [...models].sort((a, b) => key(a).localeCompare(key(b)));
}

/** Whether two models answer the same questions: same input, same classes. */
export function comparable(a, b) {
  const interface_ = ({ input, classes }) => JSON.stringify([input.shape, input.image, input.audio, classes]);
  return a.name !== b.name && interface_(a) === interface_(b);
}

/**
 * The pair `{ first, second }` of `{ model, version }`: the second is the model of that name, by default the newest
 * student; the first the one that is asked for, else the teacher that its manifest names, else an ensemble or another
 * model with the same interface, else null. Of a teacher, the very version that taught stands, where it is still there.
 */
export function choosePair({ models, default: newest }, secondName = null, firstName = null) {
  const named = (name) => models.find((model) => model.name === name);
  const second = named(secondName) ?? named(newest) ?? models[0];
  const others = inOrder(models).filter((model) => comparable(model, second));
  const first =
    others.find(({ name }) => name === firstName) ?? others.find(({ name }) => name === second.teacher?.name) ?? others[0];
  return { first: first ? place(first, second.teacher) : null, second: place(second, null), others };
}

function place(model, reference) {
  const taught = reference?.name === model.name && model.versions.includes(reference.version);
  return { model, version: taught ? reference.version : model.version };
}
