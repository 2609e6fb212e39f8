// A Hocuspocus server on a free port of the loopback interface; it keeps documents in memory.

import { Server } from "@hocuspocus/server";

const server = new Server({ address: "127.0.0.1", port: 0, quiet: true });
await server.listen();
console.log(`listening ${server.address.port}`);

process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
