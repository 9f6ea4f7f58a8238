// A LADS server that we did not write (node-opcua with the nodesets of its package), of a vendor that
// has subtypes of its own.
//
//   node opcua_lads_server.mjs '{"port":0,"pki":"/tmp/pki","units":1,"sensors":2}'
//
// `unit` (code, symbol, name) and `high` are stated of the sensors instead of °C and 50; the second
// sensor of a unit has no UNECE code. `many` variables stand in each of five folders; `packml` adds a
// filler. When it is ready it prints "ready <port>"; it ends with its standard input.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(new URL("./opcua/package.json", import.meta.url));
const {
  OPCUAServer, OPCUACertificateManager, DataType, Variant, SecurityPolicy, MessageSecurityMode,
  nodesets, makeEUInformation,
} = require("node-opcua");

const options = { port: 0, units: 1, sensors: 2, many: 0, packml: false, unit: null, high: 50, ...JSON.parse(process.argv[2] ?? "{}") };

const manager = new OPCUACertificateManager({ rootFolder: options.pki });
await manager.initialize();
const server = new OPCUAServer({
  port: options.port,
  host: "127.0.0.1",
  hostname: "127.0.0.1",
  resourcePath: "",
  serverInfo: { applicationUri: "urn:edgeagent:test:lads" },
  serverCertificateManager: manager,
  userCertificateManager: manager,
  securityPolicies: [SecurityPolicy.None],
  securityModes: [MessageSecurityMode.None],
  nodeset_filename: [
    nodesets.standard, nodesets.di, nodesets.amb, nodesets.ia, nodesets.machinery, nodesets.lads,
    ...(options.packml ? [nodesets.packML] : []),
  ],
  serverCapabilities: {
    maxBrowseContinuationPoints: 3,
    operationLimits: { maxNodesPerBrowse: 50, maxNodesPerRead: 200 },
  },
});
await server.initialize();

const space = server.engine.addressSpace;
const own = space.registerNamespace("urn:acme:freezers");
const lads = space.getNamespaceIndex("http://opcfoundation.org/UA/LADS/");
const di = space.getNamespaceIndex("http://opcfoundation.org/UA/DI/");
const type = (name) => space.findObjectType(name, lads);
const at = (node, path) => path.split("/").reduce((n, name) => n.getChildByName(name), node);

const deviceType = own.addObjectType({ browseName: "AcmeFreezerType", subtypeOf: type("LADSDeviceType") });
const unitType = own.addObjectType({ browseName: "AcmeUnitType", subtypeOf: type("FunctionalUnitType") });
const sensorType = own.addObjectType({
  browseName: "AcmeSensorType", subtypeOf: type("AnalogScalarSensorFunctionType"),
});

function set(node, dataType, value) {
  node.setValueFromSource(new Variant({ dataType, value }));
}

function measures(node, unit, low, high) {
  if (unit) node.getPropertyByName("EngineeringUnits").setValueFromSource({
    dataType: DataType.ExtensionObject, value: unit,
  });
  const range = node.getPropertyByName("EURange");
  range.setValueFromSource({
    dataType: DataType.ExtensionObject,
    value: space.constructExtensionObject(space.findDataType("Range"), { low, high }),
  });
}

const device = deviceType.instantiate({
  browseName: { name: "Freezer", namespaceIndex: own.index }, 
  nodeId: "s=Freezer", componentOf: space.findNode(`ns=${di};i=5001`), optionals: ["DeviceHealth"],
});
set(at(device, "Manufacturer"), DataType.LocalizedText, { text: "Acme" });
set(at(device, "Model"), DataType.LocalizedText, { text: "U80 (rev. 2)" });
set(at(device, "SerialNumber"), DataType.String, "SN-7");

const celsius = makeEUInformation("CEL", "°C", "degree Celsius");
const bare = makeEUInformation("", "AU", "absorbance");
const units = at(device, "FunctionalUnitSet");
for (let u = 0; u < options.units; u++) {
  const unit = unitType.instantiate({
    browseName: { name: `Unit${u}`, namespaceIndex: own.index }, componentOf: units,
    optionals: ["FunctionSet", "Operational", "ProgramManager",
                "ProgramManager.ActiveProgram.CurrentStepName",
                "ProgramManager.ActiveProgram.CurrentRuntime"],
  });
  const functions = at(unit, "FunctionSet");
  for (let s = 0; s < options.sensors; s++) {
    const sensor = sensorType.instantiate({
      browseName: { name: `Sensor${s}`, namespaceIndex: own.index }, componentOf: functions,
      displayName: "CurrentValue", optionals: ["RawValue", "AlarmMonitor"],
    });
    const value = at(sensor, "SensorValue");
    measures(value, s === 1 ? bare : options.unit ? makeEUInformation(...options.unit) : celsius, -100, options.high);
    set(value, DataType.Double, -80 - s);
    // The unit's group shows the sensor's value again.
    at(unit, "Operational").addReference({ referenceType: "Organizes", nodeId: value });
  }
}
if (options.packml) {
  const packml = space.getNamespaceIndex("http://opcfoundation.org/UA/PackML/");
  const filler = space.findObjectType("PackMLBaseObjectType", packml).instantiate({
    browseName: { name: "Filler", namespaceIndex: own.index }, nodeId: "s=Filler",
    organizedBy: space.rootFolder.objects, optionals: ["TagID"],
  });
  set(at(filler, "TagID"), DataType.String, "VF-7");
  set(at(filler, "Status/MachSpeed"), DataType.Float, 20);
}

// A folder with more than a server gives in one answer.
if (options.many) {
  const plant = own.addObject({ organizedBy: space.rootFolder.objects, browseName: "Plant" });
  for (let hall = 0; hall < 5; hall++) {
    const folder = own.addObject({ componentOf: plant, browseName: `Hall${hall}` });
    for (let i = 0; i < options.many; i++) {
      own.addVariable({ componentOf: folder, browseName: `V${i}`, dataType: "Int32" });
    }
  }
}
await server.start();
createInterface({ input: process.stdin }).on("close", () => process.exit(0));
process.stdout.write(`ready ${server.endpoints[0].port}\n`);
