package admin

import "enclave/wire"

// Scope is what a token may be used for.
type Scope string

// The scopes. All holds every other; Read lets see everything but the audit trail.
const (
	All      Scope = "admin"
	Read     Scope = "read"
	Systems  Scope = "systems"  // change systems and their tags and trust
	Tags     Scope = "tags"     // change tags themselves
	Keys     Scope = "keys"     // change enrolment keys
	Policies Scope = "policies" // change policies
	Relays   Scope = "relays"   // remove relays
	DNS      Scope = "dns"      // change DNS zones and records
	Audit    Scope = "audit"    // read the audit trail

	// Signed asks for any valid token, Public for none. No token carries either.
	Signed Scope = "signed"
	Public Scope = "public"
)

// Scopes lists what a token may carry.
func Scopes() []Scope {
	return []Scope{All, Read, Systems, Tags, Keys, Policies, Relays, DNS, Audit}
}

// rule is one row of the authorisation table.
type rule struct {
	method, path string // path below /api/v1
	scope        Scope
	id           string // operation ID of the OpenAPI document; "" is not in it
	summary      string
}

// table is the authorisation table: every route of the API and who may use it.
var table = [...]rule{
	{"GET", "/docs", Public, "", "This documentation"},
	{"GET", "/openapi.json", Public, "", "The OpenAPI 3.1 document"},
	{"GET", "/openapi.yaml", Public, "", "The OpenAPI 3.1 document"},
	{"GET", "/version", Public, "version", "Versions of the server and of the agent protocol"},

	{"GET", "/whoami", Signed, "whoami", "Whose token this is and what it may do"},
	{"GET", "/revision", Read, "revision", "Where the organisation is; with applied, waits until systems have followed"},

	{"GET", "/audit", Audit, "audit-list", "Records of the audit trail, by filters, oldest or newest first"},
	{"GET", "/audit/stream", Audit, "audit-stream", "Records as they are written, one JSON object a line"},
	{"GET", "/audit/checkpoint", Audit, "audit-checkpoint", "The signed state of the trail, and a proof that it continues an older one"},
	{"GET", "/audit/records/{seq}/proof", Audit, "audit-prove", "A proof that a record is in the trail, for whoever has the public key"},
	{"GET", "/audit/export", Audit, "audit-export", "The trail as a file that can be verified anywhere"},
	{"GET", "/audit/segments", Audit, "audit-segments", "What was archived"},
	{"POST", "/audit/archive", All, "audit-archive", "Take records out that are in a verified file; their hashes stay"},
	{"GET", "/audit/subjects", Audit, "audit-subjects", "Whom records are about and whose details can be read"},
	{"POST", "/audit/erase", All, "audit-erase", "Destroy the key of a person's or a system's details; every proof stays valid"},
	{"GET", "/activity", Audit, "activity-list", "The audit trail in the shape of before it"},
	{"GET", "/activity/stream", Audit, "activity-stream", "The same as it is written, one JSON object a line"},

	{"GET", "/seal", Signed, "seal-status", "How the state is sealed, also while it is locked"},
	{"POST", "/seal/rotate", All, "seal-rotate", "Begin to encrypt the state again under new keys, while it is in use"},
	{"POST", "/seal/recipients", All, "seal-add", "Let a recipient open the state"},
	{"POST", "/seal/recipients/remove", All, "seal-remove", "Take a recipient out; a rotation makes worthless what it kept"},
	{"POST", "/seal/lock", All, "seal-lock", "Drop every key from memory; nothing is served until the state is unlocked"},
	{"POST", "/seal/unlock", All, "seal-unlock", "Open a locked state again"},
	{"POST", "/backup", All, "backup-create", "A backup of this instant, encrypted, as a stream"},
	{"GET", "/health", Read, "health", "How the state is; with full, checks all of it"},

	{"GET", "/systems", Read, "system-list", "List systems"},
	{"GET", "/systems/{system}", Read, "system-get", "Show a system, by ID or name"},
	{"PATCH", "/systems/{system}", Systems, "system-update", "Change a system's name, notes or expiry"},
	{"DELETE", "/systems/{system}", Systems, "system-delete", "Remove a system and its identity"},
	{"POST", "/systems/{system}/approve", Systems, "system-approve", "Let a pending system in"},
	{"POST", "/systems/{system}/enable", Systems, "system-enable", "Let a disabled system take part again"},
	{"POST", "/systems/{system}/disable", Systems, "system-disable", "Take a system out of every policy for now"},
	{"POST", "/systems/{system}/revoke", Systems, "system-revoke", "End a system's identity for good"},
	{"GET", "/systems/{system}/access", Read, "system-access", "What a system may open, and who may open what to it"},
	{"GET", "/systems/{system}/peers", Read, "system-peers", "How a system reaches its peers, at most 400 of them, as its agent tells it"},
	{"POST", "/systems/{system}/tags", Systems, "system-tags", "Add and remove tags of a system in one revision"},
	{"POST", "/systems/{system}/routes", Systems, "system-routes", "Add and remove subnets that a system may carry as a gateway, in one revision"},
	{"PUT", "/systems/{system}/trust/{requirement}", Systems, "system-trust", "Mark a system as meeting a requirement"},
	{"DELETE", "/systems/{system}/trust/{requirement}", Systems, "system-untrust", "Take such a mark away"},

	{"PUT", "/systems/{system}/adds/{other}", Systems, "system-add", "Add another system; two untagged systems connect when each has added the other"},
	{"DELETE", "/systems/{system}/adds/{other}", Systems, "system-unadd", "Take that back"},

	{"GET", "/tags", Read, "tag-list", "List tags with how often each is used"},
	{"PUT", "/tags/{tag}", Tags, "tag-set", "Keep a tag, and set its notes and trust requirements"},
	{"POST", "/tags/{tag}/rename", Tags, "tag-rename", "Rename a tag wherever it stands"},

	{"GET", "/keys", Read, "key-list", "List enrolment keys"},
	{"POST", "/keys", Keys, "key-create", "Create an enrolment key; its secret is shown this once"},
	{"GET", "/keys/{key}", Read, "key-get", "Show an enrolment key"},
	{"POST", "/keys/{key}/enable", Keys, "key-enable", "Let an enrolment key be used again"},
	{"POST", "/keys/{key}/disable", Keys, "key-disable", "Stop an enrolment key; systems it enrolled stay"},
	{"DELETE", "/keys/{key}", Keys, "key-delete", "Remove an enrolment key; systems it enrolled stay"},

	{"GET", "/policies", Read, "policy-list", "List policies with their state at this instant"},
	{"POST", "/policies", Policies, "policy-create", "Create a policy"},
	{"GET", "/policies/{policy}", Read, "policy-get", "Show a policy, by ID or name"},
	{"PUT", "/policies/{policy}", Policies, "policy-update", "Replace a policy"},
	{"DELETE", "/policies/{policy}", Policies, "policy-delete", "Remove a policy"},
	{"POST", "/policies/{policy}/enable", Policies, "policy-enable", "Enable a policy"},
	{"POST", "/policies/{policy}/disable", Policies, "policy-disable", "Disable a policy; flows that only it allows are cut"},

	{"GET", "/policyset", Read, "policyset-get", "Everything that decides who reaches whom, as one document, now or at a revision"},
	{"POST", "/policyset", Policies, "policyset-apply", "Make a policy set the one in force, as one revision or none"},
	{"POST", "/policyset/confirm", Policies, "policyset-confirm", "Keep the change that would otherwise revert by itself"},
	{"GET", "/policyset/schema.json", Public, "", "The JSON Schema of policy sets, for editors"},
	{"GET", "/revisions", Read, "revision-list", "Revisions of the policy set, newest first"},
	{"GET", "/revisions/{revision}", Read, "revision-get", "Who made a revision, and the policy set as it was"},
	{"GET", "/revisions/{revision}/diff", Read, "revision-diff", "What differs between two revisions of the policy set"},
	{"POST", "/revisions/{revision}/restore", Policies, "revision-restore", "Make a past policy set the one in force again"},

	{"GET", "/requirements", Read, "requirement-list", "List trust requirements"},
	{"GET", "/requirements/{requirement}", Read, "requirement-get", "Show a trust requirement"},
	{"PUT", "/requirements/{requirement}", Policies, "requirement-set", "Create or replace a trust requirement; its kind and authority stay"},
	{"DELETE", "/requirements/{requirement}", Policies, "requirement-delete", "Remove a trust requirement that nothing asks for"},

	{"GET", "/tests", Read, "tests-get", "The assertions kept with the policies"},
	{"PUT", "/tests", Policies, "tests-set", "Replace the assertions kept with the policies"},
	{"POST", "/tests/run", Read, "tests-run", "Judge assertions, or those that are kept, at this instant"},

	{"GET", "/explain", Read, "explain", "Why a flow would pass or not, with the whole chain and what would change it"},
	{"GET", "/forecast", Read, "forecast", "What opens, closes and expires by itself"},
	{"GET", "/graph", Read, "graph", "Who reaches whom"},
	{"GET", "/graph/tags", Read, "graph-tags", "What policies let the carriers of one tag open to those of another"},
	{"GET", "/flows", Read, "flow-list", "Live flows, as the connected agents at their receiving ends tell them"},

	{"GET", "/flows/denied", Read, "denied-list", "What was refused of late, as the filters of the connected agents tell it"},
	{"POST", "/flows/cut", Systems, "flow-cut", "End live flows at both ends; what is still allowed may be opened again"},

	{"GET", "/dns/zones", Read, "zone-list", "List DNS zones"},
	{"POST", "/dns/zones", DNS, "zone-create", "Create a DNS zone"},
	{"PUT", "/dns/zones/{zone}", DNS, "zone-update", "Replace a DNS zone"},
	{"DELETE", "/dns/zones/{zone}", DNS, "zone-delete", "Remove a DNS zone that has no records"},
	{"GET", "/dns/records", Read, "record-list", "List DNS records"},
	{"POST", "/dns/records", DNS, "record-create", "Create a DNS record"},
	{"PUT", "/dns/records/{record}", DNS, "record-update", "Replace a DNS record"},
	{"DELETE", "/dns/records/{record}", DNS, "record-delete", "Remove a DNS record"},
	{"GET", "/dns/resolve", Read, "resolve", "What a name stands for, for one system, and why"},

	{"GET", "/tokens", All, "token-list", "List API tokens, without their secrets"},
	{"POST", "/tokens", All, "token-create", "Create an API token; its secret is shown this once"},
	{"DELETE", "/tokens/{token}", All, "token-revoke", "End an API token at once"},

	{"GET", "/relays", Read, "relay-list", "List relays"},
	{"DELETE", "/relays/{relay}", Relays, "relay-delete", "Remove a relay and its identity"},
}

// Prefix is the path the API lives under.
const Prefix = "/api/v1"

// pattern is the rule's pattern in a http.ServeMux.
func (r *rule) pattern() string { return r.method + " " + Prefix + r.path }

// limit is the most bytes that a body of the route may have.
func (r *rule) limit() int64 {
	if r.id == "policyset-apply" {
		return wire.MaxPolicySet
	}
	return wire.MaxRequestBody
}
