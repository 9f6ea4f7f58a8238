// An OPC UA server that we did not write (node-opcua), with counters whose every value is on record.
//
//   node opcua_server.mjs '{"port":0,"ledger":"/tmp/ledger","pki":"/tmp/pki", ...}'
//
// Each counter ticks every `tickMs`; tick k has source time and value on a line of the ledger:
// "<counter> <value> <milliseconds since 1970>". With `history` the server keeps that many values of
// each counter, and begins `past` ticks ago. Orders come as words on standard input, each is
// answered by "done". When it is ready the server prints "ready <port>".
import { createRequire } from "node:module";
import { openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";

const require = createRequire(new URL("./opcua/package.json", import.meta.url));
const {
  OPCUAServer, OPCUACertificateManager, DataType, StatusCodes, Variant, SecurityPolicy,
  MessageSecurityMode, VariantArrayType,
} = require("node-opcua");

const options = {
  port: 0, counters: 2, tickMs: 100, tokenMs: 600000, user: null, first: 1, limits: {},
  secure: false, history: 0, past: 0, ...JSON.parse(process.argv[2] ?? "{}"),
};

const manager = new OPCUACertificateManager({
  rootFolder: options.pki, automaticallyAcceptUnknownCertificate: Boolean(options.acceptAll),
});
await manager.initialize();

const server = new OPCUAServer({
  port: options.port,
  host: "127.0.0.1",
  hostname: "127.0.0.1",
  resourcePath: "",
  buildInfo: { productName: "ledger", manufacturerName: "Acme", softwareVersion: "1" },
  serverInfo: { applicationUri: "urn:edgeagent:test:server" },
  serverCertificateManager: manager,
  ...(options.certificateFile && {
    certificateFile: options.certificateFile, privateKeyFile: options.privateKeyFile,
  }),
  userCertificateManager: manager,
  securityPolicies: options.secure
    ? [SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes128_Sha256_RsaOaep,
       SecurityPolicy.Aes256_Sha256_RsaPss]
    : [SecurityPolicy.None],
  securityModes: options.secure
    ? [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt]
    : [MessageSecurityMode.None],
  allowAnonymous: options.user === null,
  userManager: {
    isValidUser: (name, password) =>
      options.user !== null && name === options.user[0] && password === options.user[1],
  },
  defaultSecureTokenLifetime: options.tokenMs,
  serverCapabilities: {
    maxMonitoredItemsPerSubscription: options.maxItems ?? 100000,
    operationLimits: options.limits,
  },
});
await server.initialize();

const space = server.engine.addressSpace;
const own = space.registerNamespace("urn:edgeagent:test");
const device = own.addObject({ organizedBy: space.rootFolder.objects, browseName: "Device" });
const ledger = options.ledger ? openSync(options.ledger, "a") : null;

function variable(name, dataType, value, more = {}) {
  const node = own.addVariable({
    componentOf: device, browseName: name, nodeId: `s=${name}`, dataType, minimumSamplingInterval: 0,
    ...more,
  });
  if (value !== undefined) node.setValueFromSource(value);
  return node;
}

const counters = [];
for (let i = 0; i < options.counters; i++) {
  counters.push(variable(`c${i}`, "Int64"));
  if (options.history) {
    space.installHistoricalDataNode(counters[i], { maxOnlineValues: options.history });
  }
}
variable("serial", "String", { dataType: DataType.String, value: "SN-1" });
variable("text", "String", { dataType: DataType.String, value: "µ" });
variable("flag", "Boolean", { dataType: DataType.Boolean, value: true });
variable("double", "Double", { dataType: DataType.Double, value: 1.5 });
variable("float", "Float", { dataType: DataType.Float, value: 0.5 });
variable("localized", "LocalizedText", { dataType: DataType.LocalizedText, value: { text: "Läuft" } });
variable("array", "Double", {
  dataType: DataType.Double, arrayType: VariantArrayType.Array, value: new Float64Array([1, 2, 3]),
}, { valueRank: 1 });
variable("time", "DateTime", { dataType: DataType.DateTime, value: new Date(1795403350123) });
variable("secret", "Double", { dataType: DataType.Double, value: 1 }, {
  accessLevel: "CurrentRead", userAccessLevel: 0,
});
const uncertain = variable("uncertain", "Double");
uncertain.setValueFromSource({ dataType: DataType.Double, value: 7 }, StatusCodes.UncertainLastUsableValue);

let tick = options.first;
const asInt64 = (n) => [Math.floor(n / 4294967296), n >>> 0];
let skewMs = 0;
function step(ago = 0) {
  const now = new Date(Date.now() + skewMs - ago * options.tickMs);
  let lines = "";
  counters.forEach((node, i) => {
    lines += `${i} ${tick} ${now.getTime()}\n`;
    const value = { dataType: DataType.Int64, arrayType: VariantArrayType.Scalar, value: asInt64(tick) };
    node.setValueFromSource(new Variant(value), StatusCodes.Good, now);
  });
  if (ledger !== null) writeSync(ledger, lines);
  tick += 1;
}
for (let ago = options.past; ago >= 0; ago--) step(ago);
const ticking = setInterval(step, options.tickMs);

await server.start();
const port = server.endpoints[0].port;

function sessions() {
  return Object.values(server.engine._sessions);
}

const orders = {
  // Drop the subscriptions without a word to the client.
  forget() {
    for (const session of sessions()) {
      for (const subscription of session.publishEngine.subscriptions.slice()) {
        subscription.terminate();
      }
    }
  },
  close() {
    for (const session of sessions()) {
      server.engine.closeSession(session.authenticationToken, true, "Terminated");
    }
  },
  // Set the clock that stamps the counters.
  back() { skewMs -= 3 * 86400 * 1000; },
  ahead() { skewMs += 3 * 86400 * 1000; },
  async stop() {
    clearInterval(ticking);
    await server.shutdown(0);
    process.exit(0);
  },
};
const input = createInterface({ input: process.stdin });
input.on("close", () => process.exit(0));
input.on("line", async (line) => {
  await orders[line.trim()]?.();
  process.stdout.write("done\n");
});
process.stdout.write(`ready ${port}\n`);
