// The face for browsers, where an import map or a bundler finds socket.io-client.

import { io } from "socket.io-client";
import { clientWith } from "./bare.js";

export * from "./errors.js";

export const Client = clientWith(io);
