// What is put, as it goes over the line. What cannot be put is told here, where the one who wrote it sees it.

/** @param {any} value */
function isBytes(value) {
  return value instanceof ArrayBuffer || ArrayBuffer.isView(value);
}

/** The arguments of a put. @param {string} name @param {any} value @param {string} [contentType] */
export function putting(name, value, contentType) {
  if (typeof name !== "string") throw new TypeError("a name is a text");
  if (!isBytes(value)) {
    // The hub takes bytes as a value, and not within one.
    const text = JSON.stringify(value, function (key, part) {
      if (isBytes(this[key]))
        throw new TypeError(`bytes are put as a value of their own, not within one (at "${key}")`);
      if (this[key] instanceof Blob) throw new TypeError("a Blob is put as its bytes: await blob.arrayBuffer()");
      // JSON would have null for it.
      if (typeof part === "number" && !Number.isFinite(part)) throw new TypeError(`${part} is no number of JSON`);
      return part;
    });
    if (text === undefined)
      throw new TypeError(`${typeof value} is nothing that can be put: JSON, a text or bytes are`);
  }
  return contentType === undefined ? [name, value] : [name, value, contentType];
}
