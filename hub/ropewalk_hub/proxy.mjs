// Runs configurable-http-proxy on listening sockets that the supervisor holds.
//
// The supervisor binds both loopback addresses once and keeps them while this process is restarted, so nobody else can
// take the port, connections wait instead of failing, and one proxy serves both. The proxy's own command line knows a
// single address. It knows the platform's own route from its first moment, so signing in does not wait for the hub,
// which adds all routes. Arguments: the package's folder, the API port, the platform's address, its host name, then
// descriptor numbers.
import net from "node:net";
import { pathToFileURL } from "node:url";

const [folder, apiPort, platform, host, ...sockets] = process.argv.slice(2);
const { ConfigurableProxy } = await import(pathToFileURL(`${folder}/lib/configproxy.js`));
const { defaultLogger } = await import(pathToFileURL(`${folder}/lib/log.js`));

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
});

await proxy.addRoute(`/${host}`, { target: platform });
proxy.proxyServer.listen({ fd: Number(sockets[0]) });
for (const socket of sockets.slice(1)) {
  net
    .createServer({ noDelay: true }, (connection) => proxy.proxyServer.emit("connection", connection))
    .listen({ fd: Number(socket) });
}
proxy.apiServer.listen(Number(apiPort), "127.0.0.1");

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => process.exit(0));
}
process.on("uncaughtException", (error) => log.error(error.stack || String(error)));
