// The protocol's own JSON schemas. The conformance suite carries them in its bundle, one object for each version, and a
// table from versions to objects; both are found by their shape, for the bundle's names are made up anew for each release.
import { parse } from 'acorn';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const SUITE = '../conformance/node_modules/@modelcontextprotocol/conformance/dist/index.js';

const nameOf = (key) => key.name ?? key.value;
const isProtocol = ({ properties: [first, second] }) =>
    first && second && nameOf(first.key) === '$schema' &&
    second.value.properties?.some((definition) => nameOf(definition.key) === 'JSONRPCRequest');
const isTable = ({ properties }) => properties.some((one) => nameOf(one.key) === '2025-11-25' && one.value.type === 'Identifier');

/** Gives the schemas by version: "2025-06-18", "2025-11-25", "2026-07-28". */
export function protocolSchemas() {
    const text = readFileSync(fileURLToPath(new URL(SUITE, import.meta.url)), 'utf8');
    const statements = parse(text, { ecmaVersion: 'latest', sourceType: 'module' }).body;
    const declared = statements.flatMap((one) => (one.type === 'VariableDeclaration' ? one.declarations : []));
    const source = (node) => text.slice(node.start, node.end);
    const objects = declared.filter((one) => one.init?.type === 'ObjectExpression');

    const schemas = new Map();
    for (const { id, init } of objects.filter((one) => isProtocol(one.init))) {
        schemas.set(id.name, new Function(`return ${source(init)}`)());
    }
    const table = objects.find((one) => isTable(one.init));
    if (!table) throw new Error('the conformance suite has no table of schemas any more');
    const versions = {};
    for (const { key, value, computed } of table.init.properties) {
        const constant = computed && declared.find((one) => one.id.name === key.name).init;
        const version = constant ? (constant.value ?? constant.quasis[0].value.cooked) : nameOf(key);
        versions[version] = schemas.get(value.name);
        if (!versions[version]) throw new Error(`the conformance suite has no schema of ${version} any more`);
    }
    return versions;
}
