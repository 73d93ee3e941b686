package policy

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// FuzzAnswer feeds anything to both forms: no panic, one valid line for each question,
// the same however the input is cut into reads, and a count that fits.
func FuzzAnswer(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, sections := readSections(string(data))
		for _, s := range sections {
			if s.name != "answer" {
				f.Add(s.text, strings.HasPrefix(filepath.Base(file), "timeline"))
			}
		}
	}
	f.Fuzz(func(t *testing.T, in string, timeline bool) {
		var out, again bytes.Buffer
		refused, err := Answer(strings.NewReader(in), &out, Options{Timeline: timeline})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Answer(iotest.HalfReader(strings.NewReader(in)), &again, Options{Timeline: timeline}); err != nil || again.String() != out.String() {
			t.Fatalf("read in parts: %v\n%s\n%s", err, out.String(), again.String())
		}
		n := 0
		for line := range strings.Lines(out.String()) {
			var a answer
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				t.Fatalf("answer %q: %v", line, err)
			}
			if (a.Error != nil) == (a.Verdicts != nil) || (a.Error != nil && len(a.Error.Problems) == 0) {
				t.Fatalf("answer %q is neither nor, or both", line)
			}
			if a.Error != nil {
				n++
			}
		}
		if n != refused {
			t.Fatalf("%d refused, said %d", n, refused)
		}
	})
}

// FuzzParsePolicy: what is accepted writes and reads back as itself.
func FuzzParsePolicy(f *testing.F) {
	f.Add(`{"id":"p1","type":"direct","enabled":true,"sender_tags":["a"],"receiver_tags":["b"],"acls":[{"protocol":"tcp","ports":"22,80-90"}]}`)
	f.Add(`{"type":"gateway","sender_tags":["a"],"acls":[{"protocol":"any"}],"gateways":[{"system":"g1","subnets":["0.0.0.0/0"]}],"subnet_filter":["a.example"]}`)
	f.Add(`{"type":"direct","active_hours":[{"tz":"UTC","days":[],"start":"22:00","end":"02:00"}],"expires_at":"2026-01-01T00:00:00+02:00"}`)
	f.Fuzz(func(t *testing.T, in string) {
		p, bad := ParsePolicy([]byte(in), "")
		if bad != nil {
			return
		}
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		q, bad := ParsePolicy(data, "")
		if bad != nil {
			t.Fatalf("%s is refused: %v", data, bad)
		}
		again, err := json.Marshal(q)
		if err != nil || !bytes.Equal(data, again) {
			t.Fatalf("%s reads back as %s", data, again)
		}
		q.ID = "p"
		if _, bad := New().PutPolicy(q, time.Time{}); bad != nil {
			t.Fatalf("the engine refuses %s: %v", data, bad)
		}
	})
}

func TestAnswerReportsReadAndWriteErrors(t *testing.T) {
	if _, err := Answer(iotest.ErrReader(io.ErrClosedPipe), io.Discard, Options{}); err == nil {
		t.Error("a reader that breaks is no end of input")
	}
	r, w := io.Pipe()
	r.Close()
	if _, err := Answer(strings.NewReader(`{"id":"a","instant":"2026-06-01T12:00:00Z"}`), w, Options{}); err == nil {
		t.Error("an answer that was not written is an error")
	}
}

func TestParsePolicyPaths(t *testing.T) {
	for in, path := range map[string]string{
		`{"id":"a","id":"b"}`: "x[0].id",
		`[`:                   "x[0]",
		`{"type":"direct","sender_tags":["a",7]}`:    "x[0].sender_tags[1]",
		`{"type":"direct","acls":[{"protocol":[]}]}`: "x[0].acls[0].protocol",
		`{"type":"direct","acls":[7]}`:               "x[0].acls[0]",
		`7`:                                          "x[0]",
		`{"type":"direct","active_hours":[7,{"tz":"UTC","days":[],"start":"10:00","end":"11:00"}]}`: "x[0].active_hours[0]",
	} {
		_, bad := ParsePolicy([]byte(in), "x[0]")
		if len(bad) == 0 || bad[0].Path != path {
			t.Errorf("%s: %v, want a problem at %s", in, bad, path)
		}
	}
}

func TestLongLinesAreRefusedNotKept(t *testing.T) {
	long := `{"id":"` + strings.Repeat("x", maxQuestion+1) + `"}` + "\n" + `{"id":"next","instant":"2026-06-01T12:00:00Z"}`
	var out bytes.Buffer
	refused, err := Answer(strings.NewReader(long), &out, Options{})
	if err != nil || refused != 1 || !strings.Contains(out.String(), `"id":"next"`) {
		t.Fatalf("refused %d, %v, %.200s", refused, err, out.String())
	}
}
