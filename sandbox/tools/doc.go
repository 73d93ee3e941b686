// Package tools is the host side of a sandboxed run's tools: what tools.json declares,
// who may call what, and the calls themselves.
//
// Data flow. Load reads tools.json into a File, all mistakes at once. Open compiles it
// into a Registry, which starts MCP servers and reads OpenAPI documents; it is shared
// by all runs. Registry.Session makes the Session of one run: every callTool of the
// script ends in Session.Call, which takes and returns bounded JSON text.
//
// A call passes, in this order: the run's counters, the tool's name, the caller's
// permission, sequences, rates, references, the schema of the arguments, the audit
// record of the intent, the deadline, the backend, the schema of the result, redaction,
// lifting into references, the audit record of the outcome. What fails is told to the
// script as a code and a short sentence of ours (Error): the words of a service, host
// paths and Go types stay here.
//
// Secrets are named in tools.json and read from files or the environment. They go into
// headers and environments of services, never into arguments, results, audit records or
// errors; one that a service echoes is cut out of the answer.
//
// The package refuses remote schema references, redirects to other hosts, and addresses
// of this machine and its networks that the operator did not declare. Byte formats:
// docs/format/tools.md. Why the MCP client is our own: docs/decisions/0131; what is
// redacted: docs/decisions/0132.
package tools
