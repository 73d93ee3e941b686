// Package storetest is the suite that every store engine passes. It speaks only the
// exported words of package store; open returns a store without an organisation.
//
// What belongs to one engine, such as its files, locks and crashes, is tested
// beside that engine. Why one suite: docs/decisions/0051-one-file-one-writer.md.
package storetest
