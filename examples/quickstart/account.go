package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
)

// tenures that a whole play has.
const tenures = 5

// account is what the promises are held against.
type account struct {
	lease         time.Duration
	tokens        []uint64      // in the order of the tenures
	looks         int           // how often the workers were asked whether they hold the lock,
	overlaps      int           // and how often two said yes
	silent        time.Duration // from the last write of the holder that was cut off to its successor's tenure
	stopped       time.Time     // when it was told that its lease is over
	takenOver     time.Time
	lateHeld      bool  // what Held said when it was back
	lateTransact  error // what its write came to, by the library
	lateSent      error // and by DynamoDB
	resultIsHeirs bool  // what the successor stored is still there
	last          dynalock.Record
}

// check is a promise and how it was kept.
type check struct {
	promise, found string
	kept           bool
}

func (a *account) checks() []check {
	grow := true
	for i := 1; i < len(a.tokens); i++ {
		grow = grow && a.tokens[i-1] < a.tokens[i]
	}
	_, refused := refusedBy(a.lateSent)
	return []check{
		{
			"every token is greater than the one before", fmt.Sprintf("%d tenures", len(a.tokens)),
			len(a.tokens) == tenures && grow,
		},
		{
			"never two holders", fmt.Sprintf("looked %d times", a.looks),
			a.looks > 0 && a.overlaps == 0,
		},
		{
			"no take-over before the lease is over", fmt.Sprintf("%.2f s of silence, lease %v", a.silent.Seconds(), a.lease),
			a.silent >= a.lease,
		},
		{
			"the silent holder stops before that", fmt.Sprintf("%.2f s before", a.takenOver.Sub(a.stopped).Seconds()),
			a.stopped.Before(a.takenOver) && !a.lateHeld,
		},
		{
			"its late write is refused", "by the library, and by DynamoDB",
			errors.Is(a.lateTransact, dynalock.ErrLost) && refused && a.resultIsHeirs,
		},
		{
			"a release frees the lock", fmt.Sprintf("it is %v", a.last.State),
			a.last.State == dynalock.Free && len(a.tokens) > 0 && a.last.Token == a.tokens[len(a.tokens)-1],
		},
	}
}

// refusedBy tells whether a transaction was refused because the lock, its last item, is not held by the tenure that
// sent it, and who holds it.
func refusedBy(err error) (holder string, refused bool) {
	var cancelled *types.TransactionCanceledException
	if !errors.As(err, &cancelled) || len(cancelled.CancellationReasons) == 0 {
		return "", false
	}
	reason := cancelled.CancellationReasons[len(cancelled.CancellationReasons)-1]
	if owner, ok := reason.Item["ownerName"].(*types.AttributeValueMemberS); ok {
		holder = owner.Value
	}
	return holder, aws.ToString(reason.Code) == "ConditionalCheckFailed"
}

// summary says which promises were kept and what it cost. The error names those that were not.
func (p *play) summary() error {
	var broken []error
	printf(p.out, "\nPromised\n")
	for _, c := range p.account.checks() {
		word := "kept  "
		if !c.kept {
			word = "BROKEN"
			broken = append(broken, fmt.Errorf("broken: %s (%s)", c.promise, c.found))
		}
		printf(p.out, "  %s  %-43s %s\n", word, c.promise, c.found)
	}

	requests, lost, total := map[string]int{}, 0, 0
	var cost bill
	for _, w := range p.workers {
		w.line.mu.Lock()
		for op, n := range w.line.requests {
			requests[op] += n
			total += n
		}
		lost += w.line.silence
		cost.reads += w.line.bill.reads
		cost.writes += w.line.bill.writes
		w.line.mu.Unlock()
	}
	var list []string
	for _, op := range slices.Sorted(maps.Keys(requests)) {
		list = append(list, fmt.Sprintf("%d %s", requests[op], op))
	}
	printf(p.out, "\nRequests  %d: %s; %d more got no answer\n", total, strings.Join(list, ", "), lost)
	printf(p.out, "On AWS    %.0f write units and %.1f read units: %.6f USD (on demand, us-east-1)\n", cost.writes,
		cost.reads, cost.usd())
	return errors.Join(broken...)
}
