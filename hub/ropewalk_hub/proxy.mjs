// Runs configurable-http-proxy on listening sockets that the supervisor holds.
//
// The supervisor binds both loopback addresses once and keeps them while this process is restarted, so nobody else can
// take the port, connections wait instead of failing, and one proxy serves both. The proxy's own command line knows a
// single address. Arguments: the package's folder, the API port, the default target, then descriptor numbers.
import net from "node:net";
import { pathToFileURL } from "node:url";

const [folder, apiPort, target, ...sockets] = process.argv.slice(2);
const { ConfigurableProxy } = await import(pathToFileURL(`${folder}/lib/configproxy.js`));
const { defaultLogger } = await import(pathToFileURL(`${folder}/lib/log.js`));

const log = defaultLogger({ level: "warn" });
const proxy = new ConfigurableProxy({
  log,
  authToken: process.env.CONFIGPROXY_AUTH_TOKEN,
  defaultTarget: target,
  hostRouting: true,
  xfwd: true,
  prependPath: true,
  includePrefix: true,
  headers: {},
  timeout: 0,
});

for (const socket of sockets) {
  net
    .createServer({ noDelay: true }, (connection) => proxy.proxyServer.emit("connection", connection))
    .listen({ fd: Number(socket) });
}
proxy.apiServer.listen(Number(apiPort), "127.0.0.1");

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => process.exit(0));
}
process.on("uncaughtException", (error) => log.error(error.stack || String(error)));
