package admin

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"enclave/control/policy"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/names"
)

// longestForecast bounds how far ahead a forecast looks, in days.
const longestForecast = 366

type (
	explainQuery struct {
		From  string    `query:"from" required:"true" maxLength:"128" doc:"System, by ID or name"`
		To    string    `query:"to" required:"true" maxLength:"128" doc:"System, by ID or name, or an address or a DNS name behind a gateway"`
		Proto string    `query:"protocol" required:"true" enum:"any,tcp,udp,icmp"`
		Port  uint16    `query:"port"`
		At    time.Time `query:"at" doc:"Absent is now"`
	}
	explained     struct{ Body api.Explanation }
	forecastQuery struct {
		Paging
		Days int `query:"days" minimum:"1" maximum:"366" default:"30"`
	}
	forecastList struct{ Body api.Page[api.Coming] }
	graphQuery   struct {
		At   time.Time `query:"at" doc:"Absent is now"`
		From string    `query:"from_tag" maxLength:"64" doc:"Only what systems with this tag may open"`
		To   string    `query:"to_tag" maxLength:"64" doc:"Only what may be opened to systems with this tag"`
	}
	graphOut      struct{ Body api.Graph }
	tagGraphQuery struct {
		At time.Time `query:"at" doc:"Absent is now"`
	}
	tagGraphOut struct{ Body api.TagGraph }
	accessQuery struct {
		SystemRef
		At time.Time `query:"at" doc:"Absent is now"`
	}
	accessOut struct{ Body api.SystemAccess }
	testList  struct {
		ETag string `header:"ETag"`
		Body api.Page[wire.Assertion]
	}
	testSet struct {
		Precondition
		Wanted
		Body struct {
			Tests []wire.Assertion `json:"tests" nullable:"false"`
		}
	}
	testRun struct {
		Body *struct {
			Tests []wire.Assertion `json:"tests,omitempty" doc:"Absent are those that are kept"`
		}
	}
	testResults struct{ Body api.Page[api.TestResult] }
)

func (a *API) routeAnswers() {
	route(a, "explain", a.explain)
	route(a, "forecast", func(ctx context.Context, in *forecastQuery) (*forecastList, error) {
		now := a.store.Now()
		list, err := a.answers.Forecast(ctx, now, now.AddDate(0, 0, min(in.Days, longestForecast)))
		if err != nil {
			return nil, refuse(err)
		}
		// A forecast is of one moment and has no cursor: the answer is whole.
		return &forecastList{api.Page[api.Coming]{Items: orEmpty(list)}}, nil
	})
	route(a, "graph", func(_ context.Context, in *graphQuery) (*graphOut, error) {
		return &graphOut{a.answers.Graph(a.orNow(in.At), wire.Tag(in.From), wire.Tag(in.To))}, nil
	})
	route(a, "system-access", func(ctx context.Context, in *accessQuery) (*accessOut, error) {
		s, err := a.store.FindSystem(ctx, in.System)
		if err != nil {
			return nil, refuse(err)
		}
		out := api.SystemAccess{At: a.orNow(in.At)}
		out.Items, out.More = a.answers.Access(s.ID, out.At)
		return &accessOut{out}, nil
	})
	route(a, "graph-tags", func(_ context.Context, in *tagGraphQuery) (*tagGraphOut, error) {
		return &tagGraphOut{a.answers.TagGraph(a.orNow(in.At))}, nil
	})
	route(a, "tests-get", func(ctx context.Context, in *Paging) (*testList, error) {
		tests, version, err := a.store.Tests(ctx)
		return &testList{etag(version), api.Page[wire.Assertion]{Items: orEmpty(tests)}}, refuse(err)
	})
	route(a, "tests-set", a.testsSet)
	route(a, "tests-run", func(_ context.Context, in *testRun) (*testResults, error) {
		var list []wire.Assertion
		if in.Body != nil {
			list = in.Body.Tests
		}
		if bad := checkTests(list); len(bad) > 0 {
			return nil, invalid(bad...)
		}
		return &testResults{api.Page[api.TestResult]{Items: orEmpty(a.answers.RunTests(list, a.store.Now()))}}, nil
	})
	a.routeReports()
}

func (a *API) orNow(t time.Time) time.Time {
	if t.IsZero() {
		return a.store.Now()
	}
	return t
}

func (a *API) explain(ctx context.Context, in *explainQuery) (*explained, error) {
	proto, err := wire.ParseProto(in.Proto)
	if err != nil {
		return nil, invalid(wire.Problem{Path: "protocol", Message: err.Error()})
	}
	if ported := proto == wire.TCP || proto == wire.UDP; ported != (in.Port != 0) {
		return nil, invalid(wire.Problem{Path: "port", Message: "tcp and udp take one, as in tcp/443; any and icmp take none"})
	}
	from, err := a.store.FindSystem(ctx, in.From)
	if err != nil {
		return nil, refuse(err)
	}
	src, dst := from.IPv4, netip.Addr{}
	if dst, err = netip.ParseAddr(in.To); err == nil {
		if dst = dst.Unmap().WithZone(""); dst.Is6() {
			src = from.IPv6
		}
	} else if to, err := a.store.FindSystem(ctx, in.To); err == nil {
		dst = to.IPv4
	} else if name, bad := names.Parse(in.To); bad == nil && a.answers.Names(name) {
		return &explained{a.explainName(from.IPv6, name, proto, in.Port, a.orNow(in.At))}, nil
	} else {
		return nil, refuse(err)
	}
	return &explained{a.answers.Explain(src, dst, proto, in.Port, a.orNow(in.At))}, nil
}

// explainName explains a flow to a name behind a gateway, in whose stead an address stands.
func (a *API) explainName(src netip.Addr, name string, proto wire.Proto, port uint16, at time.Time) api.Explanation {
	stand := names.StandIn(name)
	x := a.answers.Explain(src, stand, proto, port, at)
	say := func(s string) string { return strings.ReplaceAll(s, stand.String(), name) }
	x.Why = say(x.Why)
	for i := range x.Chain {
		x.Chain[i].Detail = say(x.Chain[i].Detail)
	}
	for i := range x.Fixes {
		x.Fixes[i] = say(x.Fixes[i])
	}
	return x
}

func checkTests(list []wire.Assertion) (bad []wire.Problem) {
	names := make(map[string]bool)
	for i := range list {
		at := fmt.Sprintf("tests[%d]", i)
		bad = append(bad, policy.ValidateAssertion(&list[i], at)...)
		if name := list[i].Name; name != "" && names[name] {
			bad = append(bad, wire.Problem{Path: at + ".name", Message: fmt.Sprintf("%q is given twice", name)})
		}
		names[list[i].Name] = true
	}
	return bad
}

func (a *API) testsSet(ctx context.Context, in *testSet) (*outcome, error) {
	c, err := in.change(ctx, in.IfMatch)
	if err != nil {
		return nil, err
	}
	if bad := checkTests(in.Body.Tests); len(bad) > 0 {
		return nil, invalid(bad...)
	}
	// No guard: tests decide nothing, and those that go need not pass.
	return asOutcome(a.order(ctx, How{DryRun: in.DryRun}, func(ctx context.Context) (Touched, wire.Revision, error) {
		rev, err := a.store.SetTests(ctx, c, in.Body.Tests)
		return Touched{Rules: true}, rev, err
	}))
}
