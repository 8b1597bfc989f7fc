// node micropython.mjs CODE: run CODE in MicroPython (its WebAssembly port, under Node), with the files of
// pictures/. That port has no sockets, so `socket` is made here: what is sent is collected,
// goes out over a real connection when an answer is first read, and the answer is read from there.

import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { loadMicroPython } from "@micropython/micropython-webassembly-pyscript/micropython.mjs";

const CONNECT = `
const [host, port] = process.argv.slice(1);
const request = Buffer.from(require("node:fs").readFileSync(0, "utf8"), "hex");
const connection = require("node:net").connect(Number(port), host, () => connection.write(request));
const pieces = [];
connection.on("data", (piece) => pieces.push(piece));
connection.on("end", () => console.log(Buffer.concat(pieces).toString("hex")));
connection.on("error", (error) => { console.error(error.message); process.exit(1); });
`;

const SOCKET = `
import binascii, io, sys
import wire


class Socket:
    def __init__(self):
        self._sent = b""

    def settimeout(self, seconds):
        pass

    def connect(self, address):
        self._address = address

    def sendall(self, piece):
        self._sent += bytes(piece)

    def makefile(self, mode):
        host, port = self._address
        said = wire.exchange(host, port, binascii.hexlify(self._sent).decode())
        if said is None:
            raise OSError(104)
        return io.BytesIO(binascii.unhexlify(said))

    def close(self):
        pass


class Module:
    socket = Socket

    @staticmethod
    def getaddrinfo(host, port):
        return [(2, 1, 0, "", (host, port))]


sys.modules["socket"] = Module
`;

const mp = await loadMicroPython({ heapsize: 4 * 1024 * 1024, stdout: (line) => console.log(line) });
mp.registerJsModule("wire", {
  exchange(host, port, hex) {
    const done = spawnSync(process.execPath, ["-e", CONNECT, host, String(port)], { input: hex });
    return done.status === 0 ? done.stdout.toString().trim() : null;
  },
});
mp.FS.mkdir("pictures");
for (const name of readdirSync("pictures")) mp.FS.writeFile(`pictures/${name}`, readFileSync(`pictures/${name}`));
mp.runPython(SOCKET);
mp.runPython("import sys\nassert sys.implementation.name == 'micropython'");
mp.runPython(readFileSync(process.argv[2], "utf8"));
