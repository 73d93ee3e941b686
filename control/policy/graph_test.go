package policy

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"enclave/wire"
	"enclave/wire/api"
)

// TestMatrix keeps how a graph of twenty systems reads.
func TestMatrix(t *testing.T) {
	e := New()
	for i := range 20 {
		e.PutSystem(sys(fmt.Sprintf("sys%02d", i), byte(i+1), []wire.Tag{"dev", "pod", "ops", "db"}[i%4]), epoch)
	}
	mustPut(t, e, direct("p1", []wire.Tag{"dev"}, []wire.Tag{"pod"}, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}}), epoch)
	mustPut(t, e, direct("p2", []wire.Tag{"ops"}, []wire.Tag{"dev", "pod", "db"}), epoch)
	mustPut(t, e, direct("p3", []wire.Tag{"db"}, []wire.Tag{"db"}, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 5432, Hi: 5433}}}, wire.ACL{Proto: wire.ICMP}), epoch)
	g := e.Graph(epoch)
	g.Nodes[3].Name, g.Nodes[4].Name = "a-database-with-a-long-name", "evil\x1b[2J\nname"
	got := Text(g)
	for _, line := range strings.Split(got, "\n") {
		if n := utf8.RuneCountInString(line); n > 100 || strings.ContainsRune(line, '\x1b') {
			t.Errorf("a line of %d columns: %q", n, line)
		}
	}
	const file = "testdata/matrix.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if golden, err := os.ReadFile(file); err != nil || string(golden) != got {
		t.Errorf("%v, the matrix reads\n%s", err, got)
	}
}

// FuzzGraph draws graphs with names that want to break out: every line stays of one of
// the few forms that the two languages are used with.
func FuzzGraph(f *testing.F) {
	for i, name := range []string{`"]; x -> y [label="`, "a\nb", "`md`", "#quot;", "|", "--> end", `\`, `\N\"`, "\x00\xff", "\u2028", "é", "<b>"} {
		f.Add(name, uint64(i))
	}
	quoted := `"([^"\\\n\r]|\\[^\n\r])*"`
	dot := regexp.MustCompile(`^(digraph enclave \{|\}|  ` + quoted + `( -> ` + quoted + `)? \[label=` + quoted + `\];)$`)
	entity := `(#(quot|lt|gt|124|59|96);)`
	text := "([^\"<>|;`\\n\\r]|" + entity + ")*"
	mermaid := regexp.MustCompile(`^(flowchart LR|  s_\w*\["` + text + `"\]|  s_\w* -->\|"` + text + `"\| s_\w*)$`)
	f.Fuzz(func(t *testing.T, name string, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 8))
		g := api.Graph{}
		for i := range 1 + r.IntN(5) {
			n := api.Node{ID: wire.SystemID(fmt.Sprintf("sys%02d", i)), Name: name, Tags: []wire.Tag{wire.Tag(name), "dev"}}
			if r.IntN(3) == 0 {
				n.ID = wire.SystemID(name)
			}
			g.Nodes = append(g.Nodes, n)
		}
		for range r.IntN(4) {
			from, to := g.Nodes[r.IntN(len(g.Nodes))], g.Nodes[r.IntN(len(g.Nodes))]
			g.Edges = append(g.Edges, api.Access{From: from.ID, To: to.ID, Proto: wire.TCP, Policy: wire.PolicyID(name)})
		}
		edges := 0
		draw(g, "", "", func(*strings.Builder, api.Node) {}, func(*strings.Builder, string, string, string) { edges++ })
		for _, form := range []struct {
			out   string
			line  *regexp.Regexp
			lines int
		}{{DOT(g), dot, 2 + len(g.Nodes) + edges}, {Mermaid(g), mermaid, 1 + len(g.Nodes) + edges}} {
			lines := strings.Split(strings.TrimSuffix(form.out, "\n"), "\n")
			if len(lines) != form.lines {
				t.Errorf("%d lines, want %d:\n%s", len(lines), form.lines, form.out)
			}
			for _, l := range lines {
				if !form.line.MatchString(l) {
					t.Errorf("line %q", l)
				}
			}
		}
		for _, c := range Text(g) {
			if c != '\n' && (c < ' ' || c == 0x7f) {
				t.Errorf("the text holds %q", c)
			}
		}
	})
}

// TestTagGraph compares tag by tag with what systems may do, one by one.
func TestTagGraph(t *testing.T) {
	e := New()
	for i := range 12 {
		e.PutSystem(sys(fmt.Sprintf("sys%02d", i), byte(i+1), []wire.Tag{"dev", "pod", "ops"}[i%3]), epoch)
	}
	e.PutSystem(sys("alone", 90), epoch)
	mustPut(t, e, direct("p1", []wire.Tag{"dev"}, []wire.Tag{"pod", "none"}, wire.ACL{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}}), epoch)
	trusting := direct("p2", []wire.Tag{"ops"}, []wire.Tag{"dev"})
	trusting.SenderTrust = []string{"mfa"}
	mustPut(t, e, trusting, epoch)
	off := direct("p3", []wire.Tag{"pod"}, []wire.Tag{"ops"})
	off.Enabled = false
	mustPut(t, e, off, epoch)
	g := e.TagGraph(epoch)
	var got []string
	for _, a := range g.Edges {
		got = append(got, fmt.Sprintf("%s>%s %s %d:%d", a.From, a.To, a.Policy, a.Senders, a.Receivers))
	}
	if text := strings.Join(got, ", "); text != "dev>none p1 4:0, dev>pod p1 4:4, ops>dev p2 0:4" {
		t.Errorf("edges %s", text)
	}
	if fmt.Sprint(g.Tags) != "[{dev 4} {none 0} {ops 4} {pod 4}]" || g.Untagged != 1 {
		t.Errorf("tags %v, %d untagged", g.Tags, g.Untagged)
	}
	part := e.GraphOf(epoch, "dev", "pod", 0)
	if len(part.Edges) != 16 || len(part.Nodes) != 8 || part.More || len(e.GraphOf(epoch, "pod", "", 0).Edges) != 0 {
		t.Errorf("%d edges, %d nodes", len(part.Edges), len(part.Nodes))
	}
	if few := e.GraphOf(epoch, "", "", 5); len(few.Edges) != 5 || !few.More {
		t.Errorf("%d edges, more %v", len(few.Edges), few.More)
	}
}

// BenchmarkTagGraph is what a map costs while the control plane waits: by tags, and a part
// of systems up to the bound on an answer.
func BenchmarkTagGraph(b *testing.B) {
	ss, ps := newEstate(2_000, 1_000)
	e := build(b, ss, ps)
	b.Run("tags", func(b *testing.B) {
		for b.Loop() {
			if g := e.TagGraph(workday); len(g.Edges) == 0 {
				b.Fatal("no edges")
			}
		}
	})
	b.Run("systems", func(b *testing.B) {
		for b.Loop() {
			if g := e.GraphOf(workday, "", "", 20_000); len(g.Edges) == 0 {
				b.Fatal("no edges")
			}
		}
	})
}
