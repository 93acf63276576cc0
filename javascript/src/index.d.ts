/** The newest of a name, as the hub has it. */
export interface Value {
  readonly name: string;
  /** Grows with every change on the hub. */
  readonly version: number;
  /** What was put: what JSON has, a text, or bytes as a Uint8Array. */
  readonly payload: any;
  readonly contentType: string;
  /** The id of the client that put it; 0: the hub's own machine. */
  readonly by: number;
  /** When, in milliseconds since 1970. */
  readonly atMs: number;
}

/** A client that is logged in, of whatever kind. Of one that left before it was known, only the id is told. */
export interface Peer {
  readonly id: number;
  readonly name: string;
  readonly address: string;
  readonly transport: string;
}

/** Where a unique ID is kept. Both may return promises. */
export interface Key {
  /** The unique ID; nothing where none was saved. */
  load(): string | null | undefined | Promise<string | null | undefined>;
  /** Returns, or resolves, once it is kept for good: only then the hub counts it as given. */
  save(uniqueId: string): unknown;
}

export interface Wait {
  /** Milliseconds. */
  timeoutMs?: number;
}

export interface Options {
  /** What people call this client; in Node the machine's host name if not given. */
  name?: string;
  /**
   * Where the hub wants one for a new id, or to get a new unique ID for a known one: the line that `lockstep invite` or
   * `lockstep clients reissue` prints, or the code in it.
   */
  invite?: string;
  /** Which names: a name, or the beginning of names with `*` behind it. All of them if not given. */
  follow?: Iterable<string>;
  /** Where the unique ID is kept, instead of a file or localStorage. */
  key?: Key;
  /**
   * In Node: the file in which the unique ID is kept. If not given, below /var/lib/lockstep/client for root, else
   * $XDG_STATE_HOME/lockstep/client or ~/.local/state/lockstep/client, a file for each hub and id.
   */
  keyFile?: string;
  /** In Node: the certificate that `lockstep cert` prints on the hub's machine; a file's path, or the PEM itself. */
  ca?: string | URL | Uint8Array;
  /** How long calls wait that are not told otherwise: 30,000 if not given. */
  timeoutMs?: number;
  /** Allows http:// to another machine, which shows the unique ID to everybody on the way. */
  plain?: boolean;
  /** As of socket.io-client: by default WebSocket, and long polling where that fails. */
  transports?: ("websocket" | "polling")[];
}

/** What every call returns that registers a callback: takes it back. */
export type TakeBack = () => void;

export declare class Client {
  /**
   * Connects, and comes back by itself after every cut with exactly the newest of what it missed.
   * @param url The hub's HTTP address: http://127.0.0.1:7118, https://hub.example:7118.
   * @param id The number of this client, from 1 on. No two programs that run at once have the same.
   * @throws TypeError What is given cannot be right.
   */
  constructor(url: string | URL, id: number, options?: Options);

  /** The latest values, by name. Stays readable without a connection and after the end. */
  readonly values: ReadonlyMap<string, any>;
  /** Resolves when this client has ended for good: with the reason, or with nothing after `close`. */
  readonly ended: Promise<LockstepError | undefined>;
  /** Whether it is logged in, and holds what the hub had when it was heard of last. */
  readonly isCurrent: boolean;
  /** Versions that did not come, since newer ones had replaced them. */
  readonly conflated: number;

  /** A value as the hub has it, with its version, type, and who put it when. */
  held(name: string): Value | undefined;
  /** Resolves once all that is followed is here, with what this client itself put. Rejects when the client ends, and with TimedOut. */
  current(options?: Wait): Promise<void>;

  /**
   * Puts a value: whatever JSON has, a text, or bytes; at most 256 KiB. Without a connection it waits for one.
   * Resolves with its version once it is on the hub's disk. Rejects with Refused: it was not done; with Unanswered or TimedOut: it
   * may have been.
   */
  put(name: string, value: any, options?: Wait & { contentType?: string }): Promise<number>;
  /** Removes a value; as `put`. */
  remove(name: string, options?: Wait): Promise<number>;
  /** Asks the hub for a value, whether it is followed or not. */
  get(name: string, options?: Wait): Promise<Value | undefined>;
  /** Who is logged in at the hub, this client among them. */
  clients(options?: Wait): Promise<Peer[]>;
  /**
   * Follows a name, or the names that begin with what stands before `*`, from now on and after every login; `current` resolves once
   * they are here.
   */
  follow(pattern: string, options?: Wait): Promise<void>;
  /** Follows it no more. What no other pattern covers is held no longer, and no callback is told of that. */
  unfollow(pattern: string, options?: Wait): Promise<void>;
  /** Leaves the hub for good. No callback is called any more, except one that runs. */
  close(): Promise<void>;

  /** The newest of a name. Callbacks are called one after another, and each promise is waited for. */
  onChange(pattern: string, callback: (value: Value) => unknown): TakeBack;
  /** A name was removed. */
  onGone(pattern: string, callback: (name: string) => unknown): TakeBack;
  /** What was told so far is a state that the hub had. */
  onCurrent(callback: () => unknown): TakeBack;
  /** First all who are here, then who comes and who leaves. */
  onClient(callback: (peer: Peer, here: boolean) => unknown): TakeBack;
  /** Something went wrong and this client goes on. Without such a callback it goes to the console. */
  onTrouble(callback: (trouble: Error) => unknown): TakeBack;
  /** The hub ended this client for good. */
  onEnd(callback: (why: LockstepError) => unknown): TakeBack;
}

/** The root of all errors that this package rejects with on its own. */
export declare class LockstepError extends Error {}
/** The client was closed here; make a new one to go on. */
export declare class Closed extends LockstepError {}
/** The unique ID cannot be read or kept. The text says where, why, and what to do. */
export declare class KeyError extends LockstepError {}
/** It did not come in time; the text says whether the hub was asked, so that it may have been done all the same. */
export declare class TimedOut extends LockstepError {}
/** The connection was lost before the hub answered: what was asked may or may not have been done. */
export declare class Unanswered extends LockstepError {}
/** The hub said no. */
export declare class Refused extends LockstepError {
  constructor(code: string, text: string);
  /** For programs; on the list in docs/socketio.md. */
  readonly code: string;
  /** For people. */
  readonly text: string;
}
/** Unknown id, wrong unique ID, or revoked: the hub gives one answer for all. */
export declare class NotProven extends Refused {}
/** This hub takes no new clients, or not without an invite. */
export declare class NotInvited extends Refused {}
/** Another login with the same id and unique ID took over. This client does not come back by itself. */
export declare class TakenOver extends Refused {}
/** The id was revoked. */
export declare class Revoked extends Refused {}
/** Too large, too long, or too many. */
export declare class LimitExceeded extends Refused {}
