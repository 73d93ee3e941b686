// Runs once in a fresh realm, before any script: takes away what no script may have,
// and freezes the rest. names are the globals that stay; native is what Go supplies.
(function (names, native) {
  "use strict";
  const all = globalThis;
  const { getOwnPropertyDescriptor, getPrototypeOf, defineProperty, freeze } = Object;
  const TypeErrorOf = TypeError, RangeErrorOf = RangeError, isArray = Array.isArray;
  const all_ = Promise.all.bind(Promise);

  const parallel = async (items, fn) => {
    if (!isArray(items)) throw new TypeErrorOf("parallel takes an array and a function");
    if (typeof fn !== "function") throw new TypeErrorOf("parallel takes an array and a function");
    const n = items.length;
    if (n > 100) throw new RangeErrorOf("parallel takes at most 100 items, not " + n);
    const out = [];
    for (let i = 0; i < n; i++) out[i] = undefined;
    let next = 0;
    const lane = async () => {
      while (next < n) {
        const i = next++;
        out[i] = await fn(items[i], i);
      }
    };
    const lanes = [];
    for (let i = 0; i < n && i < native.lanes(); i++) lanes[i] = lane();
    await all_(lanes);
    return out;
  };

  // What rewrites objects, what makes code of text, and what reaches behind a value.
  for (const k of ["defineProperty", "defineProperties", "setPrototypeOf", "getPrototypeOf", "getOwnPropertyDescriptor",
    "getOwnPropertyDescriptors", "create", "getOwnPropertySymbols", "preventExtensions"]) delete Object[k];
  for (const k of ["__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"]) delete Object.prototype[k];
  for (const k of ["caller", "arguments"]) delete Function.prototype[k];
  for (const k of ["anchor", "big", "blink", "bold", "fixed", "fontcolor", "fontsize", "italics", "link", "small", "strike", "sub", "sup"]) delete String.prototype[k];

  const scope = { __proto__: null };
  for (let i = 0; i < names.length; i++) {
    const name = names[i];
    let v = all[name];
    if (name === "parallel") v = parallel;
    else if (name in native) v = native[name];
    defineProperty(scope, name, { value: v, writable: false, enumerable: false, configurable: false });
  }

  // A frozen prototype would forbid a script to give its own object a property of the
  // same name. Where that is usual, the property becomes a pair that allows it.
  const yielding = (holder, key) => {
    const d = getOwnPropertyDescriptor(holder, key);
    if (!d || !("value" in d)) return;
    const value = d.value;
    defineProperty(holder, key, {
      get() { return value; },
      set(v) {
        if (this === holder) throw new TypeErrorOf("cannot change a built-in");
        defineProperty(this, key, { value: v, writable: true, enumerable: true, configurable: true });
      },
      enumerable: false, configurable: false,
    });
  };
  const errors = [TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError];
  for (let i = 0; i < errors.length; i++) {
    delete errors[i].prototype.message; // that of Error is the same
    yielding(errors[i].prototype, "name");
  }
  yielding(Error.prototype, "name");
  yielding(Error.prototype, "message");
  for (const key of ["toString", "valueOf"]) yielding(Object.prototype, key);

  // Every object that a value leads to, except the built-in functions themselves: what a
  // script writes on one of those is seen by nobody but itself.
  const iterators = [[][Symbol.iterator](), ""[Symbol.iterator](), new Map().entries(), new Set().values(), "".matchAll(/x/g)];
  const open = [Function.prototype, Object.prototype, Array.prototype, String.prototype, Number.prototype, Boolean.prototype, Date.prototype,
    RegExp.prototype, Symbol.prototype, BigInt.prototype, Map.prototype, Set.prototype, Promise.prototype, Error.prototype,
    AggregateError.prototype, getPrototypeOf(function* () {}), getPrototypeOf(getPrototypeOf(function* () {}).prototype),
    getPrototypeOf(function* () {}).prototype, getPrototypeOf(async () => {})];
  for (let i = 0; i < errors.length; i++) open.push(errors[i].prototype);
  for (let i = 0; i < iterators.length; i++) open.push(getPrototypeOf(iterators[i]), getPrototypeOf(getPrototypeOf(iterators[i])));
  for (let i = 0; i < open.length; i++) {
    delete open[i].constructor;
    freeze(open[i]);
  }
  for (let i = 0; i < names.length; i++) {
    const v = scope[names[i]];
    if (typeof v === "object" || typeof v === "function") freeze(v);
  }
  freeze(scope);
  return scope;
})
