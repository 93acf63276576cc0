// What goes wrong while a client goes on, and why there is no connection.

export class Troubles {
  /** @type {Error | undefined} The newest reason for which there is no connection. */
  newest;
  /** @type {Set<(trouble: Error) => unknown>} */
  #callbacks = new Set();

  /** @param {(trouble: Error) => unknown} callback */
  on(callback) {
    this.#callbacks.add(callback);
    return () => void this.#callbacks.delete(callback);
  }

  /**
   * There is no connection for this reason. Each further try fails alike, which is told once.
   * @param {Error} trouble
   */
  connection(trouble) {
    const isSame = this.newest?.message === trouble.message;
    this.newest = trouble;
    if (!isSame) this.tell(trouble);
  }

  /** At once, not after what callbacks for values still have to do: it may be the reason. @param {Error} trouble */
  tell(trouble) {
    if (this.#callbacks.size === 0)
      console.warn(`lockstep: ${trouble.message}`, ...(trouble.cause ? [trouble.cause] : []));
    for (const callback of this.#callbacks) {
      try {
        callback(trouble);
      } catch (error) {
        console.error("lockstep: a callback for trouble failed", error);
      }
    }
  }
}

/**
 * What socket.io-client's error says, with what is below it: by itself it says "websocket error" or "xhr poll error".
 * @param {any} error
 */
export function reasonOf(error) {
  const below = [
    // Of WebSocket, then of polling on Node, then what a hub answers that turns a connection away.
    error?.description?.error,
    error?.description,
    error?.context?.statusText,
    error?.context?.responseText,
  ];
  const details = below.map((cause) => (typeof cause === "string" ? cause : cause?.message));
  const detail = details.find((text) => typeof text === "string" && text !== "");
  return detail ? `${error.message} (${detail.slice(0, 500)})` : String(error?.message ?? error);
}
