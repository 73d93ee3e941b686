package portmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// pmpRouter speaks NAT-PMP (RFC 6886) on loopback; its port is fixed by the RFC.
func pmpRouter(t *testing.T, external netip.Addr) (mapped func() map[uint16]uint32) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5351})
	if err != nil {
		t.Skipf("the port of NAT-PMP is taken: %v", err)
	}
	var mu sync.Mutex
	ports := map[uint16]uint32{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			var out []byte
			switch {
			case n == 2 && b[1] == 0: // section 3.2
				ip := external.As4()
				out = append([]byte{0, 128, 0, 0, 0, 0, 0, 9}, ip[:]...)
			case b[0] == pcpVersion: // as section 9 of RFC 6887 has it
				out = []byte{0, 128 | b[1], 0, 1, 0, 0, 0, 9}
			case n == 12 && b[1] == 1: // section 3.3, UDP
				internal, life := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint32(b[8:])
				mu.Lock()
				if ports[internal] = life; life == 0 {
					delete(ports, internal)
				}
				mu.Unlock()
				out = append([]byte{0, 129, 0, 0, 0, 0, 0, 9}, b[4:6]...)
				outside := internal + 1 // another port than was asked for
				if life == 0 {
					outside = 0
				}
				out = binary.BigEndian.AppendUint16(out, outside)
				out = binary.BigEndian.AppendUint32(out, min(life, 600))
			default:
				continue
			}
			c.WriteToUDPAddrPort(out, from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return func() map[uint16]uint32 {
		mu.Lock()
		defer mu.Unlock()
		out := map[uint16]uint32{}
		for k, v := range ports {
			out[k] = v
		}
		return out
	}
}

func loopback() (netip.Addr, error) { return netip.MustParseAddr("127.0.0.1"), nil }

func TestNATPMP(t *testing.T) {
	mapped := pmpRouter(t, netip.MustParseAddr("203.0.113.9"))
	r := &Router{Gateway: loopback}
	m, err := r.Map(t.Context(), 41641)
	if err != nil || m.Addr.String() != "203.0.113.9:41642" || m.Lasts != 10*time.Minute || m.How != "nat-pmp" {
		t.Fatalf("%+v, %v", m, err)
	}
	if mapped()[41641] != 7200 {
		t.Errorf("the router has %v", mapped())
	}
	r.Unmap(t.Context(), 41641, m)
	if len(mapped()) != 0 {
		t.Errorf("not given back: %v", mapped())
	}
}

func TestBehindACarrier(t *testing.T) {
	mapped := pmpRouter(t, netip.MustParseAddr("100.64.7.7"))
	if m, err := (&Router{Gateway: loopback}).Map(t.Context(), 41641); !errors.Is(err, errNested) || m.Addr.IsValid() {
		t.Errorf("%+v, %v", m, err)
	}
	if len(mapped()) != 0 {
		t.Error("a port was opened that nobody can reach")
	}
}

// igdRouter is a UPnP internet gateway, as far as one service goes.
func igdRouter(t *testing.T) (root *url.URL, calls func() string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	mux := http.NewServeMux()
	mux.HandleFunc("/root.xml", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><friendlyName>lab</friendlyName><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>/scpd.xml</SCPDURL><controlURL>/control</controlURL><eventSubURL>/events</eventSubURL></service></serviceList></device></root>`)
	})
	mux.HandleFunc("/control", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		_, action, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPACTION"), `"`), "#")
		mu.Lock()
		got = append(got, action+" "+string(body))
		mu.Unlock()
		inside := ""
		if action == "GetExternalIPAddress" {
			inside = "<NewExternalIPAddress>203.0.113.9</NewExternalIPAddress>"
		}
		fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:%sResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">%s</u:%[1]sResponse></s:Body></s:Envelope>`, action, inside)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	root, _ = url.Parse(srv.URL + "/root.xml")
	return root, func() string { mu.Lock(); defer mu.Unlock(); return strings.Join(got, "\n") }
}

func TestUPnP(t *testing.T) {
	root, calls := igdRouter(t)
	r := &Router{Root: root, Gateway: func() (netip.Addr, error) { return netip.Addr{}, errNoGateway }}
	m, err := r.Map(t.Context(), 41641)
	if err != nil || m.Addr.String() != "203.0.113.9:41641" || m.How != "upnp" {
		t.Fatalf("%+v, %v", m, err)
	}
	r.Unmap(t.Context(), 41641, m)
	for _, want := range []string{"AddPortMapping ", "<NewInternalPort>41641</NewInternalPort>", "<NewInternalClient>127.0.0.1</NewInternalClient>", "<NewProtocol>UDP</NewProtocol>", "DeletePortMapping "} {
		if !strings.Contains(calls(), want) {
			t.Errorf("the router was not asked %s:\n%s", want, calls())
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	nowhere, _ := url.Parse("http://127.0.0.1:1/root.xml")
	r := &Router{Root: nowhere, Gateway: func() (netip.Addr, error) { return netip.Addr{}, errNoGateway }}
	if _, err := r.Map(t.Context(), 1); !errors.Is(err, errNoGateway) || !strings.Contains(err.Error(), "UPnP") {
		t.Errorf("%v", err)
	}
}

func FuzzRoutes(f *testing.F) {
	f.Add("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n" + "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := parseRoutes(text); err == nil && (!a.Is4() || a.IsUnspecified()) {
			t.Fatal(a)
		}
	})
}

func TestDefaultRoute(t *testing.T) {
	text := "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\neth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
	if a, err := parseRoutes(text); err != nil || a.String() != "192.0.2.1" {
		t.Errorf("%v, %v", a, err)
	}
	if _, err := parseRoutes("nonsense\n\n"); !errors.Is(err, errNoGateway) {
		t.Error(err)
	}
}
