// Where a hub is, and whether its address may be used as it is.

const ID_MAX = Number.MAX_SAFE_INTEGER;

/** Whether a host, as URL has it, is this machine itself. @param {string} host */
function isLoopback(host) {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/**
 * The address of a hub. Throws on one that would show the unique ID to others, unless `plain`.
 * @param {string | URL} text @param {boolean} [plain]
 */
export function hubAt(text, plain) {
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new TypeError(`${JSON.stringify(String(text))} is no address of a hub: it looks like http://127.0.0.1:7118`);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new TypeError(`${url} is no address of a hub: it begins with http:// or https://`);
  }
  if (url.protocol === "http:" && !isLoopback(url.hostname) && !plain) {
    throw new TypeError(
      `${url} would show the unique ID to everybody on the way: use https:// (in Node with the option ca, of what ` +
        "'lockstep cert' prints on the hub's machine), or say plain: true",
    );
  }
  return url;
}

/** @param {unknown} id */
export function checkedId(id) {
  if (typeof id === "number" && Number.isInteger(id) && id >= 1 && id <= ID_MAX) return id;
  throw new TypeError(
    `an id is an integer from 1 to ${ID_MAX}, not ${typeof id === "string" ? `"${id}"` : String(id)}`,
  );
}

/**
 * What a key is kept under: a hub and an id. All names of this machine itself count as one.
 * @param {URL} url @param {number} id
 */
export function keyName(url, id) {
  const host = isLoopback(url.hostname) ? "localhost" : url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  return `${encodeURIComponent(host)}_${port}_${id}`;
}
