// Holds recorded sessions against the protocol's own JSON schemas:  node validate.mjs ERA=FOLDER...
//
// Every message of both directions has to be valid by the definition that fits it: of its method for a request or a
// notification, of the method that it answers for a result, of its code for an error. What no definition is known for is
// a failure. So is what schemas cannot say: an answer to nothing, to what was cancelled, or a second one; a request
// without an answer; word that nobody subscribed to; anything on stderr; a server that had to be told twice to go.
import * as tasks from '@modelcontextprotocol/ext-tasks/core/v2';
import { Ajv } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { protocolSchemas } from './protocol.mjs';

const MODERN = '2026-07-28';
const GONE_WITHIN = 1_500;
// How long what a server said before it heard of a cancellation may be on its way, in milliseconds.
const CROSSES_WITHIN = 250;
const NAME = 'io.modelcontextprotocol/';

// What a session of each era has to have shown, else the recording is not of the main job.
const EVERYWHERE = ['tools/list', 'tools/call', 'resources/list', 'resources/templates/list', 'resources/read', 'prompts/list',
    'prompts/get', 'completion/complete', 'notifications/resources/updated', 'notifications/cancelled'];
const EXPECTED = {
    legacy: [...EVERYWHERE, 'elicitation/create', 'initialize', 'notifications/initialized', 'resources/subscribe', 'resources/unsubscribe'],
    modern: [...EVERYWHERE, 'tasks/get', 'tasks/cancel', 'subscriptions/listen', 'notifications/subscriptions/acknowledged'],
};

/** What belongs to the tasks extension is not in the protocol's schemas; its own package has it. */
const OF_TASKS = {
    'tasks/get': { request: tasks.GetTaskRequestV2Schema, result: tasks.GetTaskResultV2Schema },
    'tasks/update': { request: tasks.UpdateTaskRequestV2Schema, result: tasks.UpdateTaskResultV2Schema },
    'tasks/cancel': { request: tasks.CancelTaskRequestV2Schema, result: tasks.CancelTaskResultV2Schema },
};

/** The definitions of one version of the protocol, each as a function that gives null or what is wrong. */
class Protocol {
    constructor(version, schema) {
        const options = { strict: false, allErrors: true };
        this.ajv = schema.$schema.includes('2020-12') ? new Ajv2020(options) : new Ajv(options);
        formats.default(this.ajv);
        this.ajv.addSchema(schema, version);
        this.version = version;
        this.place = schema.$defs ? '$defs' : 'definitions';
        this.definitions = schema[this.place];
        this.byMethod = new Map();
        this.byCode = new Map();
        for (const [name, { properties }] of Object.entries(this.definitions)) {
            if (properties?.method?.const) this.byMethod.set(properties.method.const, name);
            const code = properties?.error?.allOf?.[1]?.properties.code.const;
            if (code) this.byCode.set(code, name);
        }
    }

    /** Says what is wrong with a value by the definition of this name. */
    check(name, value) {
        if (!this.definitions[name]) return `${this.version} has no definition ${name}`;
        const validate = this.ajv.getSchema(`${this.version}#/${this.place}/${name}`);
        return validate(value) ? null : `not a ${name}: ${this.ajv.errorsText(validate.errors)}`;
    }

    /** Names the definition of what a request of this method is answered with. */
    resultOf(method) {
        const name = this.byMethod.get(method).replace(/Request$/, 'Result');
        return this.definitions[name] ? name : 'EmptyResult';
    }
}

const byZod = (schema, value) => {
    const { success, error } = schema.safeParse(value);
    return success ? null : error.message;
};

const protocols = Object.fromEntries(
    Object.entries(protocolSchemas()).map(([version, schema]) => [version, new Protocol(version, schema)]),
);

/** One run of a server, from its first message to its end. */
class Session {
    constructor(entries) {
        this.entries = entries;
        this.methods = new Set();
        this.messages = 0;
        this.toldToGo = false; // by a signal
        this.open = new Map(); // requests without an answer, by who asked and their id
        this.cancelled = new Set();
        this.listening = new Map(); // accepted filters by the id of their subscription
        this.left = new Map(); // the same of those that were cancelled, and when
        this.subscribed = new Set(); // what a legacy client asked to hear of
        const messages = entries.filter((one) => one.line && one.from !== 'stderr').map((one) => JSON.parse(one.line));
        const handshake = messages.find((one) => one.result?.protocolVersion && one.result?.serverInfo);
        this.version = handshake?.result.protocolVersion ?? MODERN;
        this.protocol = protocols[this.version];
        if (!this.protocol) throw new Error(`there is no schema of ${this.version}`);
    }

    get isModern() {
        return this.version === MODERN;
    }

    get isProbe() {
        return this.methods.size === 1 && this.methods.has('server/discover');
    }

    /** Gives everything that is wrong. */
    faults() {
        const faults = [];
        for (const entry of this.entries) {
            const fault = this.faultOf(entry);
            if (fault) faults.push(`${fault}\n    ${(entry.line ?? JSON.stringify(entry)).slice(0, 2_000)}`);
        }
        for (const [key, { method }] of this.open) {
            // Who listens hears to the end; and what was cancelled is not answered.
            if (!this.cancelled.has(key) && method !== 'subscriptions/listen') faults.push(`no answer to ${key}, ${method}`);
        }
        if (!this.entries.at(-1)?.exit) faults.push('the recording does not tell of the end');
        return faults;
    }

    faultOf(entry) {
        if (entry.from === 'stderr') return 'something on stderr';
        if (entry.unfinished !== undefined) return `the ${entry.from}'s last line has no end`;
        // A look whether a server is of the modern era is ended at once; every other client leaves it to the server to go.
        if (entry.signal) {
            this.toldToGo = true;
            return this.isProbe ? null : `the server had to be told to go by ${entry.signal}`;
        }
        if (entry.failed) return 'the server was not started';
        if (entry.exit) {
            const { code, after } = entry.exit;
            // A signal may be quicker than the end of the input.
            const gone = after === null ? this.toldToGo : after <= GONE_WITHIN;
            return code === 0 && gone ? null : 'the server did not end well';
        }
        this.messages += 1;
        this.at = entry.at;
        const message = JSON.parse(entry.line);
        const envelope = this.protocol.check('JSONRPCMessage', message);
        if (envelope) return envelope;
        if (message.method === undefined) return this.faultOfAnswer(entry.from, message);
        this.methods.add(message.method);
        return message.id === undefined ? this.faultOfNotification(entry.from, message) : this.faultOfRequest(entry.from, message);
    }

    faultOfRequest(from, message) {
        const { id, method } = message;
        if (this.isModern && from === 'server') return 'a server of this era asks nothing by itself';
        const key = `${from}'s ${JSON.stringify(id)}`;
        if (this.open.has(key)) return `the id ${id} is used twice`;
        this.open.set(key, message);
        if (method === 'resources/subscribe') this.subscribed.add(message.params?.uri);
        if (this.isModern && OF_TASKS[method]) return byZod(OF_TASKS[method].request, message);
        const name = this.protocol.byMethod.get(method);
        // A client that looks whether the server is of the modern era cannot know that it is not.
        if (!name && method === 'server/discover') return protocols[MODERN].check('DiscoverRequest', message);
        return name ? this.protocol.check(name, message) : `${this.version} has no request ${method}`;
    }

    faultOfNotification(from, message) {
        const { method, params } = message;
        if (this.isModern && method === 'notifications/tasks') return byZod(tasks.TaskStatusNotificationV2Schema, message);
        const name = this.protocol.byMethod.get(method);
        const fault = name ? this.protocol.check(name, message) : `${this.version} has no notification ${method}`;
        if (fault) return fault;
        if (method === 'notifications/cancelled') {
            const key = `${from}'s ${JSON.stringify(params.requestId)}`;
            this.cancelled.add(key);
            this.left.set(params.requestId, { accepted: this.listening.get(params.requestId), at: this.at });
            this.listening.delete(params.requestId);
        }
        if (this.isModern && from === 'server' && method !== 'notifications/progress') return this.faultOfSubscribed(message);
        const unwanted = method === 'notifications/resources/updated' && !this.isModern && !this.subscribed.has(params.uri);
        return unwanted ? `nobody asked to hear of ${params.uri}` : null;
    }

    /** In the modern era what a server says unasked belongs to a subscription, which it has acknowledged first. */
    faultOfSubscribed({ method, params }) {
        const id = params._meta?.[`${NAME}subscriptionId`];
        const asked = this.open.get(`client's ${JSON.stringify(id)}`);
        if (asked?.method !== 'subscriptions/listen') return `${method} for ${id}, which is no subscription`;
        if (method === 'notifications/subscriptions/acknowledged') {
            if (this.listening.has(id)) return `the subscription ${id} is acknowledged twice`;
            this.listening.set(id, params.notifications);
            return null;
        }
        const left = this.left.get(id);
        const accepted = this.listening.get(id) ?? (left && this.at - left.at <= CROSSES_WITHIN ? left.accepted : undefined);
        if (!accepted) return `${method} for ${id} before its acknowledgement or after its end`;
        const wanted = method !== 'notifications/resources/updated' || accepted.resourceSubscriptions?.includes(params.uri);
        return wanted ? null : `nobody asked to hear of ${params.uri}`;
    }

    faultOfAnswer(from, message) {
        const key = `${from === 'server' ? 'client' : 'server'}'s ${JSON.stringify(message.id)}`;
        const asked = this.open.get(key);
        if (!asked) return `an answer to ${key}, which is no request without an answer`;
        if (this.cancelled.has(key)) return `an answer to ${key}, which was cancelled`;
        this.open.delete(key);
        if (asked.method === 'resources/unsubscribe') this.subscribed.delete(asked.params.uri);
        this.listening.delete(message.id);
        if (message.error) return this.protocol.check(this.protocol.byCode.get(message.error.code) ?? 'JSONRPCErrorResponse', message);
        return this.protocol.check('JSONRPCResultResponse', message) ?? this.faultOfResult(asked.method, message.result);
    }

    faultOfResult(method, result) {
        if (!this.isModern) return this.protocol.check(this.protocol.resultOf(method), result);
        // The answer to a cancellation says no more than that it has come.
        if (!result._meta?.[`${NAME}serverInfo`] && method !== 'tasks/cancel') return 'a result that does not say whose it is';
        // A definition that asks for less would let another kind of result pass, so each has only its own.
        switch (result.resultType) {
            case 'complete':
                return OF_TASKS[method] ? byZod(OF_TASKS[method].result, result) : this.protocol.check(this.protocol.resultOf(method), result);
            case 'input_required':
                return this.protocol.check('InputRequiredResult', result);
            case 'task':
                return byZod(tasks.CreateTaskResultV2Schema, result);
            default:
                return `a result of the kind ${result.resultType}`;
        }
    }
}

const read = (file) => readFileSync(file, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
const faults = [];
const total = { messages: 0, sessions: 0, methods: new Set() };
for (const [era, folder] of process.argv.slice(2).map((one) => one.split('='))) {
    const methods = new Set();
    for (const file of readdirSync(folder).map((name) => join(folder, name))) {
        const session = new Session(read(file));
        faults.push(...session.faults().map((fault) => `${file}\n  ${fault}`));
        session.methods.forEach((method) => methods.add(method) && total.methods.add(method));
        total.messages += session.messages;
        total.sessions += 1;
    }
    faults.push(...EXPECTED[era].filter((method) => !methods.has(method)).map((method) => `no ${method} in ${folder}`));
}
if (faults.length || !total.sessions) {
    console.error(faults.slice(0, 10).join('\n'));
    console.error(`${faults.length} faults`);
    process.exit(1);
}
console.log(`${total.messages} messages of ${total.sessions} sessions, ${total.methods.size} methods`);
