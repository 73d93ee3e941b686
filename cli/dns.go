package cli

import (
	"context"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/names"
)

func (a *app) dns() *cobra.Command {
	return a.group("dns", "Manage names: zones and records",
		a.group("zone", "Manage zones", a.zoneList(), a.zonePut(true), a.zonePut(false), a.zoneDelete()),
		a.group("record", "Manage records", a.recordList(), a.recordPut(true), a.recordPut(false), a.recordDelete()))
}

func (a *app) zoneList() *cobra.Command {
	return listing(a, "List zones", (*client.Client).Zones, []string{"ZONE", "NAMES", "PUBLISHES", "FORWARDED TO", "NOTES"}, func(z api.Zone) []string {
		kind, to := "ours", "-"
		publishes := join(z.AutoTags)
		if z.BuiltIn {
			publishes = "every system"
		}
		if z.Forward != nil {
			kind, to = "forwarded", strings.Join(z.Forward.Resolvers, ",")+" over "+join(z.Forward.Gateways)
		}
		return []string{clean(z.Name), kind, orDash(publishes), to, orDash(z.Notes)}
	})
}

// zoneFlags are the fields of a zone as flags.
type zoneFlags struct {
	auto, gateways, resolvers []string
	notes                     string
}

func (a *app) zonePut(create bool) *cobra.Command {
	var (
		w changing
		f zoneFlags
	)
	c := &cobra.Command{Use: "update ZONE", Short: "Change fields of a zone; the others stay", Args: exactly("ZONE"), ValidArgsFunction: a.completeZones()}
	if create {
		c.Use, c.Short, c.ValidArgsFunction = "create ZONE", "Create a zone", cobra.NoFileCompletions
		c.Long = `A zone is ours, and then nobody else is asked about its names; or it is forwarded to
resolvers behind gateways, which those systems ask whom a policy lets reach them.
"." forwards every name that no other zone owns.`
		c.Example = "  enclave dns zone create corp.example --auto-tag servers\n" +
			"  enclave dns zone create lan --gateway office --resolver 192.168.1.53"
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		doc, version := wire.Zone{Name: args[0]}, wire.Revision(0)
		if !create {
			if !anyChanged(c, "auto-tag", "gateway", "resolver", "notes") {
				return nothingToChange(c)
			}
			old, err := find(c.Context(), "zone", args[0], cl.Zones, func(z *api.Zone) string { return z.Name })
			if err != nil {
				return err
			}
			doc, version = old.Zone, old.Version
		}
		if err := f.set(c, cl, &doc); err != nil {
			return err
		}
		if bad := names.CheckZone(&doc); len(bad) > 0 {
			return &failure{exit: exitUsage, Code: api.CodeInvalid, Message: "the zone has mistakes", Problems: bad}
		}
		var out api.Zone
		said := "updated zone "
		if create || version == 0 { // the built-in one, of which nothing is stored yet
			said = map[bool]string{true: "created zone ", false: said}[create]
			out, err = cl.With(w.wish).CreateZone(c.Context(), doc)
		} else {
			out, err = cl.With(w.wish).UpdateZone(c.Context(), doc, version)
		}
		if err != nil {
			return a.trial(err)
		}
		return a.done(c.Context(), cl, w, api.Changed{Revision: out.Version}, out, said+out.Name)
	}
	fl := w.flags(c).Flags()
	fl.StringArrayVar(&f.auto, "auto-tag", nil, "publish HOSTNAME.ZONE for systems with `TAG`; may be given several times")
	fl.StringArrayVar(&f.gateways, "gateway", nil, "forward over `SYSTEM`; may be given several times")
	fl.StringArrayVar(&f.resolvers, "resolver", nil, "forward to `ADDRESS[:PORT]` behind a gateway; may be given several times")
	fl.StringVar(&f.notes, "notes", "", "free `TEXT`")
	return completing(c, map[string]completion{"auto-tag": a.completeTags(), "gateway": a.offer(func(ctx context.Context, cl *client.Client, _ []string) []string { return systemWords(ctx, cl) }), "resolver": words()})
}

func (f *zoneFlags) set(c *cobra.Command, cl *client.Client, doc *wire.Zone) error {
	given := c.Flags().Changed
	var bad mistakes
	if given("auto-tag") {
		doc.AutoTags = each(&bad, "--auto-tag", f.auto, wire.ParseTag)
	}
	if given("notes") {
		doc.Notes = f.notes
	}
	if given("gateway") || given("resolver") {
		if doc.Forward == nil {
			doc.Forward = &wire.ZoneForward{}
		}
		if given("gateway") {
			ids, err := systemIDs(c.Context(), cl, f.gateways)
			if err != nil {
				return err
			}
			doc.Forward.Gateways = ids
		}
		if given("resolver") {
			doc.Forward.Resolvers = each(&bad, "--resolver", f.resolvers, func(s string) (string, error) {
				at, err := names.ParseResolver(s)
				return at.String(), err
			})
		}
	}
	return bad.refuse("the zone")
}

// systemIDs finds systems by name or ID. Empty texts count for nothing.
func systemIDs(ctx context.Context, cl *client.Client, list []string) ([]wire.SystemID, error) {
	ids := []wire.SystemID{}
	for _, name := range list {
		if name == "" {
			continue
		}
		s, err := cl.System(ctx, name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, s.ID)
	}
	return ids, nil
}

func anyChanged(c *cobra.Command, flags ...string) bool {
	for _, f := range flags {
		if c.Flags().Changed(f) {
			return true
		}
	}
	return false
}

func nothingToChange(c *cobra.Command) error {
	return usage("nothing to change").hint("see \"" + c.CommandPath() + " --help\"")
}

// find returns the object of a list with a name.
func find[T any](ctx context.Context, what, name string, all func(context.Context) ([]T, error), of func(*T) string) (T, error) {
	var none T
	list, err := all(ctx)
	if err != nil {
		return none, err
	}
	for i := range list {
		if of(&list[i]) == strings.ToLower(strings.TrimSuffix(name, ".")) || of(&list[i]) == name {
			return list[i], nil
		}
	}
	return none, &api.Problem{Status: 404, Code: api.CodeNotFound, Title: "not found", Detail: what + " " + name + " does not exist", Hint: "see \"enclave dns " + what + " list\""}
}

func (a *app) zoneDelete() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "delete ZONE", Short: "Remove a zone that has no records", Args: exactly("ZONE"), ValidArgsFunction: a.completeZones(),
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, "removed zone "+args[0], func(cl *client.Client) (api.Changed, error) { return cl.DeleteZone(c.Context(), args[0]) })
		}})
}

func (a *app) recordList() *cobra.Command {
	return listing(a, "List records", (*client.Client).Records, []string{"RECORD", "ZONE", "TAGS", "SYSTEMS", "NOTES"}, func(r api.Record) []string {
		return []string{clean(r.Name), orDash(r.Zone), orDash(join(r.Tags)), orDash(join(r.Systems)), orDash(r.Notes)}
	})
}

func (a *app) recordPut(create bool) *cobra.Command {
	var (
		w             changing
		tags, systems []string
		notes         string
	)
	c := &cobra.Command{Use: "update RECORD", Short: "Change fields of a record; the others stay", Args: exactly("RECORD"), ValidArgsFunction: a.completeRecords()}
	if create {
		c.Use, c.Short, c.ValidArgsFunction = "create RECORD --tag TAG", "Create a record", cobra.NoFileCompletions
		c.Long = `The name stands for the systems with one of the tags, and those named besides; for
each asker, for those of them that it is connected to. "*" may be the first label, and
the zone's own name is a name, too. A record beats the automatic name of a system.`
		c.Example = "  enclave dns record create db.corp.example --tag databases\n  enclave dns record create '*.apps.enclave' --system web"
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		doc, version := wire.Record{Name: args[0]}, wire.Revision(0)
		if !create {
			if !anyChanged(c, "tag", "system", "notes") {
				return nothingToChange(c)
			}
			old, err := find(c.Context(), "record", args[0], cl.Records, func(r *api.Record) string { return r.Name })
			if err != nil {
				return err
			}
			doc, version = old.Record, old.Version
		}
		var bad mistakes
		if c.Flags().Changed("tag") {
			doc.Tags = each(&bad, "--tag", tags, wire.ParseTag)
		}
		if c.Flags().Changed("system") {
			if doc.Systems, err = systemIDs(c.Context(), cl, systems); err != nil {
				return err
			}
		}
		if c.Flags().Changed("notes") {
			doc.Notes = notes
		}
		if err := append(bad, names.CheckRecord(&doc)...).refuse("the record"); err != nil {
			return err
		}
		var out api.Record
		said := "updated record "
		if create {
			said = "created record "
			out, err = cl.With(w.wish).CreateRecord(c.Context(), doc)
		} else {
			out, err = cl.With(w.wish).UpdateRecord(c.Context(), doc, version)
		}
		if err != nil {
			return a.trial(err)
		}
		return a.done(c.Context(), cl, w, api.Changed{Revision: out.Version}, out, said+out.Name)
	}
	fl := w.flags(c).Flags()
	fl.StringArrayVar(&tags, "tag", nil, "systems with `TAG`; may be given several times")
	fl.StringArrayVar(&systems, "system", nil, "one `SYSTEM`, by name or ID; may be given several times")
	fl.StringVar(&notes, "notes", "", "free `TEXT`")
	return completing(c, map[string]completion{"tag": a.completeTags(), "system": a.offer(func(ctx context.Context, cl *client.Client, _ []string) []string { return systemWords(ctx, cl) })})
}

func (a *app) recordDelete() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "delete RECORD", Short: "Remove a record", Args: exactly("RECORD"), ValidArgsFunction: a.completeRecords(),
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, "removed record "+args[0], func(cl *client.Client) (api.Changed, error) { return cl.DeleteRecord(c.Context(), args[0]) })
		}})
}

func (a *app) completeZones() completion {
	return a.offer(firstArg(func(ctx context.Context, cl *client.Client) (out []string) {
		zones, _ := cl.Zones(ctx)
		for _, z := range zones {
			out = append(out, z.Name)
		}
		return out
	}))
}

func (a *app) completeRecords() completion {
	return a.offer(firstArg(func(ctx context.Context, cl *client.Client) (out []string) {
		records, _ := cl.Records(ctx)
		for _, r := range records {
			out = append(out, r.Name)
		}
		return out
	}))
}

func (a *app) resolve() *cobra.Command {
	var as, at, kind string
	c := &cobra.Command{Use: "resolve NAME", Short: "Say what a name stands for, for whom, and why",
		Long: `With --as the control plane answers for any system. Without it, the agent that runs on
--state answers for itself, and asks the resolvers of a zone that is forwarded.`,
		Example: "  enclave resolve web.enclave --as laptop\n  enclave resolve db.corp.example --state laptop --type AAAA",
		Args:    exactly("NAME"), ValidArgsFunction: a.completeRecords(), RunE: func(c *cobra.Command, args []string) error {
			kind = strings.ToUpper(kind)
			if kind != "A" && kind != "AAAA" {
				return usage("--type %.20q: want A or AAAA", kind)
			}
			if _, err := names.Parse(args[0]); err != nil {
				return usage("%v", err)
			}
			r, err := a.resolution(c.Context(), args[0], as, at, kind)
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { resolveText(w, &r, kind) })
		}}
	c.Flags().StringVar(&as, "as", "", "the asker: a `SYSTEM`, by name or ID; the control plane answers")
	c.Flags().StringVar(&at, "at", "", "with --as, the instant, `WHEN`: RFC 3339, a duration from now, or a wall clock (\"2026-12-24 18:00 Europe/Berlin\"; default now)")
	c.Flags().StringVar(&kind, "type", "A", "A or AAAA: `TYPE`")
	return completing(c, map[string]completion{"type": words("A", "AAAA"), "as": a.offer(func(ctx context.Context, cl *client.Client, _ []string) []string { return systemWords(ctx, cl) })})
}

func (a *app) resolution(ctx context.Context, name, as, at, kind string) (r api.Resolution, err error) {
	if as == "" {
		if at != "" {
			return r, usage("--at goes with --as: an agent knows its own present")
		}
		l, err := a.local()
		if err != nil {
			return r, err
		}
		return l.Resolve(ctx, name, kind)
	}
	when, err := instantAny(at)
	if err != nil {
		return r, err
	}
	cl, err := a.client()
	if err != nil {
		return r, err
	}
	r, err = cl.Resolve(ctx, name, as, when)
	for _, s := range r.Systems {
		r.Addresses = append(r.Addresses, map[string]netip.Addr{"A": s.IPv4, "AAAA": s.IPv6}[kind])
	}
	return r, err
}

func resolveText(w io.Writer, r *api.Resolution, kind string) {
	rows := [][]string{{"name", clean(r.Name)}, {"asker", clean(first(r.AsName, string(r.As)))},
		{"answer", map[string]string{"found": "found", "empty": "NODATA: the name has no address", "missing": "NXDOMAIN", "forwarded": "forwarded", "outside": "SERVFAIL", "behind": "behind a gateway"}[r.Kind]},
		{"zone", orDash(r.Zone)}}
	for i, s := range r.Systems {
		rows = append(rows, []string{kind, r.Addresses[i].String() + "  " + clean(s.Name) + " (" + string(s.ID) + ")"})
	}
	if len(r.Systems) == 0 {
		for _, addr := range r.Addresses {
			family := "AAAA"
			if addr.Is4() {
				family = "A"
			}
			rows = append(rows, []string{family, addr.String()})
		}
	}
	for _, id := range r.Gateways {
		rows = append(rows, []string{"gateway", string(id)})
	}
	for _, v := range r.Resolvers {
		rows = append(rows, []string{"resolver", v.Resolver.String() + " over " + string(v.Gateway)})
	}
	if r.Why != "" {
		rows = append(rows, []string{"why", clean(r.Why)})
	}
	table(w, rows...)
}
