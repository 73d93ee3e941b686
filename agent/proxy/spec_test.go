package proxy

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseForward(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:5432=db.enclave:5432": "127.0.0.1:5432=db.enclave:5432",
		"5432=DB.enclave:5432":           "127.0.0.1:5432=db.enclave:5432",
		":5432=db.enclave:5432/tcp":      "127.0.0.1:5432=db.enclave:5432",
		"localhost:0=db:1":               "127.0.0.1:0=db:1",
		"[::1]:53=[fd7a::1]:53/udp":      "[::1]:53=[fd7a::1]:53/udp",
	} {
		f, err := ParseForward(in)
		if err != nil || f.String() != want {
			t.Errorf("%q: %s, %v; want %s", in, f, err, want)
		}
	}
	for in, want := range map[string]string{
		"":                         "want LISTEN=HOST:PORT",
		"5432":                     "want LISTEN=HOST:PORT",
		"5432=":                    "want LISTEN=HOST:PORT",
		"5432=db":                  "want HOST:PORT",
		"5432=db:0":                "1 to 65535",
		"5432=db:99999":            "1 to 65535",
		"5432=db:http":             "1 to 65535",
		"host:5432=db:1":           "write an IP address",
		"-1=db:1":                  "1 to 65535",
		"5432=d b:1":               "neither a name nor an address",
		"5432=db:1/sctp":           "want tcp or udp",
		strings.Repeat("1", 10000): "longer than",
	} {
		if f, err := ParseForward(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, %v; want %q", in, f, err, want)
		}
	}
}

func TestParseExpose(t *testing.T) {
	for in, want := range map[string]Expose{
		"8080=127.0.0.1:9000": {"tcp", 8080, "127.0.0.1:9000"},
		"8080":                {"tcp", 8080, "127.0.0.1:8080"},
		"53/udp":              {"udp", 53, "127.0.0.1:53"},
		"80=localhost:80/udp": {"udp", 80, "localhost:80"},
	} {
		if e, err := ParseExpose(in); err != nil || e != want {
			t.Errorf("%q: %v, %v", in, e, err)
		}
	}
	for _, in := range []string{"", "=", "0", "80=", "=80", "80=:80", "x=127.0.0.1:80", "127.0.0.1:80=127.0.0.1:80", "080", "+80", "65536"} {
		if e, err := ParseExpose(in); err == nil {
			t.Errorf("%q: %v", in, e)
		}
	}
}

func FuzzSpecs(f *testing.F) {
	for _, s := range []string{"127.0.0.1:5432=db.enclave:5432", "5353=dns.enclave:53/udp", "8080", "8080=127.0.0.1:9000", "[fe80::1%eth0]:1=[::1]:2", "53/udp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if fw, err := ParseForward(s); err == nil {
			if again, err := ParseForward(fw.String()); err != nil || again != fw {
				t.Fatalf("forward %q: %q became %q, %v", s, fw, again, err)
			}
			if fw.Listen == (netip.AddrPort{}) {
				t.Fatalf("forward %q listens nowhere", s)
			}
		}
		if e, err := ParseExpose(s); err == nil {
			if again, err := ParseExpose(e.String()); err != nil || again != e {
				t.Fatalf("expose %q: %q became %q, %v", s, e, again, err)
			}
		}
	})
}
