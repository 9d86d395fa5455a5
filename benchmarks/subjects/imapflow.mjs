// imapflow on Node: one FETCH for all, streamed by its own iterator, without COMPRESS (which costs more than it gives here).
// Text is taken out of whole messages by mailparser, told to make no HTML of text nor text of HTML.
// The same protocol as subject.py: the job as JSON on standard input, the outcome as JSON on standard output.
// The lines of the digest must stay as they are in tally.py.

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(process.argv[2] + '/'));
const { ImapFlow } = require('imapflow');
const { simpleParser } = require('mailparser');
const { version } = require('imapflow/package.json');

const job = JSON.parse(readFileSync(0, 'utf8'));
const tally = { count: 0, total: 0, digest: 0n };

const sha256 = (data) => createHash('sha256').update(data);
const add = (line) => {
    tally.digest = (tally.digest + sha256(line).digest().readBigUInt64BE()) & 0xffffffffffffffffn;
};
const metadataLine = (uid, flags, size) => `${uid}\t${size}\t${[...flags].sort().join(' ')}`;
const parsing = { skipHtmlToText: true, skipTextToHtml: true, skipTextLinks: true, skipImageLinks: true };
const people = (list) => (list || []).map((each) => `${each.name || ''} <${each.address}>`);

const readers = {
    metadata(message) {
        tally.count++;
        tally.total += message.uid + message.size + message.flags.size;
        if (job.verify) add(metadataLine(message.uid, message.flags, message.size));
    },
    flags(message) {
        tally.count++;
        tally.total += message.uid + message.flags.size;
        if (job.verify) add(metadataLine(message.uid, message.flags, 0));
    },
    fields(message) {
        const { date, subject, from, to, cc } = message.envelope;
        const groups = [from, to, cc].map(people);
        tally.count++;
        tally.total += message.uid + message.size + groups.reduce((sum, group) => sum + group.length, 0);
        if (job.verify) {
            const line = metadataLine(message.uid, message.flags, message.size);
            const texts = groups.map((group) => group.join(','));
            add([line, Math.floor(date.getTime() / 1000), subject || '', ...texts].join('\t'));
        }
    },
    async text(message) {
        const { text } = await simpleParser(message.source, parsing);
        // It gives a line end where there is no text.
        const plain = (text || '').replace(/\n+$/, '');
        tally.count++;
        tally.total += plain ? message.uid : 0;
        if (job.verify) add(`${message.uid}\t${sha256(plain.replace(/\r\n/g, '\n')).digest('hex')}`);
    },
    content(message) {
        const data = message.source || message.headers;
        tally.count++;
        tally.total += data.length;
        if (job.verify) add(`${message.uid}\t${sha256(data).digest('hex')}`);
    }
};

const query = { uid: true, flags: true };
if (job.work !== 'flags') Object.assign(query, { internalDate: true, size: true });
if (job.work === 'metadata' || job.work === 'fields') query.envelope = true;
if (job.work === 'headers') query.headers = true;
if (['bodies', 'large', 'text'].includes(job.work)) query.source = true;

const memory = (field) => {
    const line = readFileSync('/proc/self/status', 'utf8').split('\n').find((each) => each.startsWith(field + ':'));
    return parseInt(line.split(/\s+/)[1], 10) * 1024;
};
const linux = process.platform === 'linux';
const idle = linux ? memory('VmRSS') : process.memoryUsage.rss();
if (linux) writeFileSync('/proc/self/clear_refs', '5');
const cpu = process.cpuUsage();
const started = performance.now();

const client = new ImapFlow({
    host: job.host,
    port: job.port,
    secure: Boolean(job.certificate),
    ...(job.certificate ? { tls: { ca: readFileSync(job.certificate) } } : { doSTARTTLS: false }),
    auth: { user: job.user, pass: job.password },
    logger: false,
    disableCompression: true,
    disableAutoIdle: true
});
await client.connect();
await client.mailboxOpen('INBOX', { readOnly: true });
if (job.work === 'search') {
    for (let i = 0; i < Number(job.options.searches); i++) {
        for (const uid of await client.search({ seen: false }, { uid: true })) {
            tally.count++;
            tally.total += uid;
            if (job.verify) add(String(uid));
        }
    }
} else {
    const uids = await client.search({ all: true }, { uid: true });
    if (uids.length !== job.count) throw new Error('SEARCH ALL does not show every message');
    const read = readers[job.work] || readers.content;
    for await (const message of client.fetch(`1:${job.count}`, query, { uid: true })) {
        const parsed = read(message);
        if (parsed) await parsed;
    }
}

const wall = (performance.now() - started) / 1000;
const used = process.cpuUsage(cpu);
const outcome = {
    wall_seconds: wall,
    cpu_seconds: (used.user + used.system) / 1e6,
    idle_rss: idle,
    peak_rss: linux ? memory('VmHWM') : process.resourceUsage().maxRSS * 1024,
    count: tally.count,
    total: tally.total,
    digest: job.verify ? tally.digest.toString(16).padStart(16, '0') : '',
    version,
    notes: {}
};
await client.logout();
console.log('\n' + JSON.stringify(outcome));
