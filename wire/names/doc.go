// Package names says what a name of the overlay stands for, and for whom.
//
// Its data are a view, made of one system's map: the zones of the organisation and,
// of each peer, the names that it answers to. Lookup is the one function that decides:
// the stub resolver asks it, the proxies do, and so does the control plane for
// "enclave resolve --as". It owns no socket and no clock, and does not allocate.
//
// It refuses to know anybody whom the map does not introduce: for an asker, a name
// none of whose systems it is connected to does not exist (docs/decisions/0145).
// Names follow RFC 1035 section 2.3.1 as RFC 1123 section 2.1 relaxes it; which of
// several wildcards answers is decided in docs/decisions/0146 and not by RFC 4592.
package names
