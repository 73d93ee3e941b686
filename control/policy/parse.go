package policy

import (
	"encoding/json"
	"errors"

	"enclave/wire"
)

// ParsePolicy reads one policy document and returns every mistake in it, of form and
// of meaning, each with its place under path. A document that leaves enabled out is an
// enabled one.
func ParsePolicy(data []byte, path string) (wire.Policy, []wire.Problem) {
	if l := checkJSON(data, path); l != nil {
		return wire.Policy{}, l
	}
	var l problems
	p := l.policy(data, path)
	return p, l
}

// checkJSON refuses what two readers could understand differently.
func checkJSON(data []byte, path string) []wire.Problem {
	err := wire.CheckJSON(data)
	if err == nil {
		return nil
	}
	var p wire.Problem
	if !errors.As(err, &p) {
		p.Message = "no JSON: " + err.Error()
	}
	switch {
	case p.Path == "":
		p.Path = path
	case path != "" && p.Path[0] != '[':
		p.Path = path + "." + p.Path
	default:
		p.Path = path + p.Path
	}
	return []wire.Problem{p}
}

func (l *problems) policy(raw json.RawMessage, path string) wire.Policy {
	o := l.object(raw, path)
	if o.fields == nil {
		return wire.Policy{}
	}
	before := len(*l)
	p := wire.Policy{
		ID: wire.PolicyID(o.str("id")), Name: o.str("name"), Notes: o.str("notes"),
		Kind: wire.PolicyKind(o.str("type")), Enabled: o.boolean("enabled", true),
		SenderTags: o.tags("sender_tags"), ReceiverTags: o.tags("receiver_tags"),
		SenderTrust: o.strings("trust_requirements"), RecvTrust: o.strings("receiver_trust"),
		ExpiryAction: wire.ExpiryAction(o.str("expiry_action")),
		SubnetFilter: o.strings("subnet_filter"), Priority: o.str("priority"),
		ActiveHours: o.windows("active_hours"),
	}
	if t := o.instant(o.take("expires_at")); !t.IsZero() {
		p.ExpiresAt = &t
	}
	p.ExpiresLocal = o.local("expires_local")
	items, at := o.list("acls")
	for i, raw := range items {
		p.ACLs = append(p.ACLs, l.acl(raw, index(at, i)))
	}
	items, at = o.list("gateways")
	for i, raw := range items {
		g := l.object(raw, index(at, i))
		p.Gateways = append(p.Gateways, wire.GatewayRoute{System: wire.SystemID(g.str("system")), Subnets: g.strings("subnets")})
		g.done()
	}
	o.done()
	// What has no form has no meaning to complain of either.
	formless := make(map[string]bool)
	for _, bad := range (*l)[before:] {
		formless[bad.Path] = true
	}
	for _, bad := range Validate(&p, path) {
		if !formless[bad.Path] {
			*l = append(*l, bad)
		}
	}
	return p
}

func (l *problems) acl(raw json.RawMessage, path string) (a wire.ACL) {
	o := l.object(raw, path)
	defer o.done()
	a.Description = o.str("description")
	raw, at := o.take("protocol")
	if s, ok := l.text1(raw, at); ok {
		var err error
		if a.Proto, err = wire.ParseProto(s); err != nil {
			l.add(at, "%v", err)
		}
	}
	raw, at = o.take("ports")
	if s, ok := l.text1(raw, at); ok {
		var err error
		if a.Ports, err = wire.ParsePorts(s); err != nil {
			l.add(at, "%v", err)
		}
	}
	return a
}

// windows reads null, one window or a list of windows.
func (o *object) windows(name string) (out wire.Windows) {
	raw, path := o.take(name)
	var items []json.RawMessage
	switch {
	case raw == nil:
		return nil
	case raw[0] == '{':
		items = []json.RawMessage{raw}
	case raw[0] != '[' || json.Unmarshal(raw, &items) != nil:
		o.l.add(path, "want null, one window or a list of windows")
		return nil
	}
	for i, raw := range items {
		at := path
		if len(items) > 1 {
			at = index(path, i)
		}
		w := o.l.object(raw, at)
		out = append(out, wire.Window{Zone: w.str("tz"), Days: w.strings("days"), Start: w.str("start"), End: w.str("end")})
		w.done()
	}
	return out
}
