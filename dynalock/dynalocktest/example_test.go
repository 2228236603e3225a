package dynalocktest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

// makeTable makes the table that the examples use.
func makeTable(ctx context.Context, db *dynamodb.Client) {
	if _, err := db.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName: aws.String("locks"),
		KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("key"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{
			AttributeName: aws.String("key"),
			AttributeType: types.ScalarAttributeTypeS,
		}},
		BillingMode: types.BillingModePayPerRequest,
	}); err != nil {
		panic(err)
	}
}

// take is what the examples do: they write an item that must not exist.
func take(ctx context.Context, db *dynamodb.Client, key, owner string) error {
	_, err := db.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String("locks"),
		Item: map[string]types.AttributeValue{
			"key":   &types.AttributeValueMemberS{Value: key},
			"owner": &types.AttributeValueMemberS{Value: owner},
		},
		ConditionExpression:                 aws.String("attribute_not_exists(#k)"),
		ExpressionAttributeNames:            map[string]string{"#k": "key"},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	return err
}

// printing stands for the *testing.T of a test.
type printing struct{ cleanup func() }

func (*printing) Helper()                        {}
func (*printing) Failed() bool                   { return false }
func (p *printing) Cleanup(f func())             { p.cleanup = f }
func (*printing) Errorf(text string, a ...any)   { fmt.Printf("the test fails: "+text+"\n", a...) }
func (p *printing) Fatalf(text string, a ...any) { p.Errorf(text, a...) }

// A test makes its server, table and client in one line. This one forgets to release its lock.
func ExampleStart() {
	t := &printing{} // in a test: its *testing.T
	db := dynalocktest.Start(t, "locks").Client()

	locks, err := dynalock.New(db, "locks", func(o *dynalock.Options) { o.Owner = "alice" })
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	lock, err := locks.Acquire(ctx, "nightly-report")
	fmt.Println(lock.Held(), err)

	t.cleanup() // by the test, when it ends
	cancel()
	_ = locks.Close(ctx) // too late, but for the goroutines of this example
	// Output:
	// true <nil>
	// the test fails: dynalocktest: at the end of the test the lock "nightly-report" of table "locks" is still held by "alice". Call Release on the lock or Close on its client; where a test leaves locks on purpose, set ServerOptions.LeaveLocks.
}

func ExampleNewServer() {
	server := dynalocktest.NewServer()
	defer server.Close()
	ctx, db := context.Background(), server.Client()
	makeTable(ctx, db)

	fmt.Println(take(ctx, db, "job", "alice"))
	var held *types.ConditionalCheckFailedException
	if errors.As(take(ctx, db, "job", "bob"), &held) {
		fmt.Println("held by", held.Item["owner"].(*types.AttributeValueMemberS).Value)
	}
	usage := server.Usage()
	fmt.Println(usage.Requests["PutItem"], "writes,", usage.WriteUnits, "write units")
	// Output:
	// <nil>
	// held by alice
	// 2 writes, 2 write units
}

// A write whose answer is lost is applied all the same. The caller learns nothing but that its time is over.
func ExampleServer_Inject() {
	server := dynalocktest.NewServer()
	defer server.Close()
	ctx, db := context.Background(), server.Client()
	makeTable(ctx, db)

	server.Inject(dynalocktest.Fault{Kind: dynalocktest.LostResponse, Operation: "PutItem", Times: 1})
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := take(short, db, "job", "alice")
	fmt.Println("in doubt:", errors.Is(err, context.DeadlineExceeded))

	var held *types.ConditionalCheckFailedException
	fmt.Println("refused by its own item:", errors.As(take(ctx, db, "job", "alice"), &held))
	// Output:
	// in doubt: true
	// refused by its own item: true
}

// A client that is cut off from the server, until the partition heals.
func ExampleServer_ClientFor() {
	server := dynalocktest.NewServer()
	defer server.Close()
	ctx := context.Background()
	makeTable(ctx, server.Client())
	alice, bob := server.ClientFor("alice"), server.ClientFor("bob")

	heal := server.Inject(dynalocktest.Fault{Kind: dynalocktest.LostRequest, Client: "alice"})
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	fmt.Println("alice reaches it:", take(short, alice, "a", "alice") == nil)
	fmt.Println("bob reaches it:", take(ctx, bob, "b", "bob") == nil)
	heal()
	fmt.Println("alice reaches it:", take(ctx, alice, "a", "alice") == nil)
	// Output:
	// alice reaches it: false
	// bob reaches it: true
	// alice reaches it: true
}

// The order in which writes were applied, with what they wrote.
func ExampleServer_Requests() {
	server := dynalocktest.NewServer()
	defer server.Close()
	ctx := context.Background()
	makeTable(ctx, server.Client())

	_ = take(ctx, server.ClientFor("alice"), "job", "alice")
	_ = take(ctx, server.ClientFor("bob"), "job", "bob")
	for _, r := range server.Requests() {
		fmt.Println(r.Client, r.Operation, r.Key, r.Error, len(r.Writes))
	}
	// Output:
	// client CreateTable   0
	// alice PutItem job  1
	// bob PutItem job ConditionalCheckFailedException 0
}

// Units are counted from a point on: what does the second write cost?
func ExampleServer_ResetUsage() {
	server := dynalocktest.NewServer()
	defer server.Close()
	ctx, db := context.Background(), server.Client()
	makeTable(ctx, db)
	_ = take(ctx, db, "a", "alice")

	server.ResetUsage()
	_ = take(ctx, db, "b", "alice")
	usage := server.Usage()
	fmt.Println(usage.Total(), "request,", usage.WriteUnits, "write unit")
	// Output: 1 request, 1 write unit
}

// The service deletes items some time after their time to live. The server does so when it is told to.
func ExampleServer_ExpireItems() {
	server := dynalocktest.NewServer()
	defer server.Close()
	ctx := context.Background()
	if err := dynalock.CreateTable(ctx, server.Client(), "locks", func(o *dynalock.TableOptions) {
		o.TimeToLive = true
	}); err != nil {
		panic(err)
	}
	locks, err := dynalock.New(server.Client(), "locks", func(o *dynalock.Options) { o.Retention = time.Hour })
	if err != nil {
		panic(err)
	}
	err = locks.Do(ctx, "job", func(context.Context, *dynalock.Lock) error { return nil })

	server.SetClockOffset(2 * time.Hour)
	fmt.Println(server.ExpireItems(), "item expired,", err, locks.Close(ctx))
	// Output: 1 item expired, <nil> <nil>
}

// A machine's clock is an hour slow. The server refuses its first request, and the SDK corrects the clock.
func ExampleServer_SetClockOffset() {
	server := dynalocktest.NewServer()
	defer server.Close()
	ctx, db := context.Background(), server.Client()
	makeTable(ctx, db)

	server.SetClockOffset(time.Hour) // or ServerOptions.ClockOffset
	fmt.Println(take(ctx, db, "job", "alice"))
	for _, r := range server.Requests() {
		if r.Operation == "PutItem" {
			fmt.Println(r.Applied, r.Error)
		}
	}
	// Output:
	// <nil>
	// false InvalidSignatureException
	// true
}

// A server that is as slow as a network, whose clock is ahead, and that shows each request as it is applied.
func ExampleServerOptions() {
	server := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) {
		o.Latency, o.Jitter, o.Seed = 4*time.Millisecond, time.Millisecond, 7
		o.ClockOffset = time.Second
		o.History = 100 // Requests remembers so many
		o.OnRequest = func(r dynalocktest.Request) { fmt.Println(r.Operation, r.Key, len(r.Writes)) }
	})
	defer server.Close()
	ctx, db := context.Background(), server.Client()
	makeTable(ctx, db)
	fmt.Println(take(ctx, db, "job", "alice"))
	// Output:
	// CreateTable  0
	// PutItem job 1
	// <nil>
}

// A test of what happens after a crash ends with a lock that is held.
func ExampleServerOptions_leaveLocks() {
	t := &printing{} // in a test: its *testing.T
	server := dynalocktest.Start(t, "locks", func(o *dynalocktest.ServerOptions) { o.LeaveLocks = true })
	locks, err := dynalock.New(server.Client(), "locks")
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	lock, err := locks.Acquire(ctx, "nightly-report")
	fmt.Println(lock.Held(), err)
	t.cleanup() // by the test, when it ends: it does not fail
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_ = locks.Close(ctx) // for the goroutines of this example
	// Output: true <nil>
}

// Over HTTP the server serves any client of the service: other SDKs, the AWS CLI, Terraform.
func ExampleServer_ServeHTTP() {
	server := dynalocktest.NewServer()
	web := httptest.NewServer(server) // or http.ListenAndServe("localhost:8000", server)
	defer web.Close()
	defer server.Close()

	db := dynamodb.New(dynamodb.Options{
		BaseEndpoint: aws.String(web.URL), Region: "us-east-1", HTTPClient: http.DefaultClient,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "alice", SecretAccessKey: "any"}, nil // the name of this client
		}),
	})
	makeTable(context.Background(), db)
	fmt.Println(server.Requests()[0].Client, server.Requests()[0].Operation)
	// Output: alice CreateTable
}
