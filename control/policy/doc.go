// Package policy decides who may know whom and who may open which flow. Every answer
// of the product comes from here: control compiles grants with it, the command line
// evaluates, explains, compares and forecasts with it.
//
// Its data are systems, tags and policies (wire.Policy), held by an Engine that is
// told of every change and of the time, and says which systems a change concerns. An
// index from tags to systems and to policies keeps a change as cheap as the pairs it
// touches. Every end and beginning is an exact half-open interval [NotBefore,
// NotAfter) that travels with the grant, so a receiver closes on time without us.
//
// It refuses to deny: there is no deny rule, no order and no priority; a packet that
// no policy allows is simply not allowed. It refuses a document that has a mistake
// anywhere, and it knows no socket, file, clock, logger or context: every instant is
// an argument.
//
// Backed by docs/decisions/0020 (one engine, two indexes), 0021 (wall-clock hours), 0022
// (gateway reach), 0023 (reading questions), 0024 (flows over time), 0025 (mutual
// adds) and 0026 (pairs that a change touches). The question format is docs/format/question.md.
package policy
