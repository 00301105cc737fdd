// Runs configurable-http-proxy on listening sockets that the supervisor holds.
//
// The supervisor binds both loopback addresses once and keeps them while this process is restarted, so nobody else can
// take the port, connections wait instead of failing, and one proxy serves both. The proxy's own command line knows a
// single address. It knows the platform's own route from its first moment, so signing in does not wait for the hub,
// which adds all routes. Routes are kept in a file: the hub looks after them only every five minutes, and after a kill
// open notebooks should come back at once. Arguments: the package's folder, the file of routes, the API port, the
// platform's address, its host name, then descriptor numbers. On a cluster nobody holds sockets for it: there the API
// port and the last argument are written as address:port.
import dns from "node:dns";
import fs from "node:fs";
import net from "node:net";
import { fileURLToPath, pathToFileURL } from "node:url";
import { remembering } from "./names.mjs";

const [folder, file, apiPort, platform, host, ...sockets] = process.argv.slice(2);
const { ConfigurableProxy } = await import(pathToFileURL(`${folder}/lib/configproxy.js`));
const { defaultLogger } = await import(pathToFileURL(`${folder}/lib/log.js`));

dns.lookup = remembering(dns.lookup);
const log = defaultLogger({ level: "warn" });
const proxy = new ConfigurableProxy({
  log,
  authToken: process.env.CONFIGPROXY_AUTH_TOKEN,
  defaultTarget: `${platform}/_door`,
  hostRouting: true,
  xfwd: true,
  prependPath: true,
  includePrefix: true,
  headers: {},
  timeout: 0,
  errorPath: fileURLToPath(new URL("./away", import.meta.url)), // what a browser shows while a part is away
});

function routes() {
  try {
    return Object.entries(JSON.parse(fs.readFileSync(file, "utf8")));
  } catch {
    return []; // none yet, or cut short by a full disk: the hub adds them again
  }
}

async function save() {
  try {
    fs.writeFileSync(`${file}.new`, JSON.stringify(await proxy._routes.getAll()), { mode: 0o600 });
    fs.renameSync(`${file}.new`, file);
  } catch (error) {
    log.error(`the routes were not kept: ${error.message}`);
  }
}

for (const [path, data] of routes()) {
  await proxy.addRoute(path, data);
}
for (const name of ["addRoute", "removeRoute"]) {
  const change = proxy[name].bind(proxy);
  proxy[name] = async (...given) => {
    const result = await change(...given);
    await save();
    return result;
  };
}
await proxy.addRoute(`/${host}`, { target: platform });
await proxy.addRoute("/", { target: `${platform}/_door` });

function place(text) {
  const [host, port] = text.split(":");
  return port ? { host, port: Number(port) } : { fd: Number(text) };
}

proxy.proxyServer.listen(place(sockets[0]));
for (const socket of sockets.slice(1)) {
  net
    .createServer({ noDelay: true }, (connection) => proxy.proxyServer.emit("connection", connection))
    .listen({ fd: Number(socket) });
}
proxy.apiServer.listen(apiPort.includes(":") ? place(apiPort) : { host: "127.0.0.1", port: Number(apiPort) });

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => process.exit(0));
}
process.on("uncaughtException", (error) => log.error(error.stack || String(error)));
