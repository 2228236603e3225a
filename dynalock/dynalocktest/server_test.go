package dynalocktest_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.uber.org/goleak"

	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num(n string) types.AttributeValue { return &types.AttributeValueMemberN{Value: n} }

func createLocks(t *testing.T, s *dynalocktest.Server) *dynamodb.Client {
	t.Helper()
	db := s.Client()
	if _, err := db.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("locks"),
		KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("key"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{
			AttributeName: aws.String("key"),
			AttributeType: types.ScalarAttributeTypeS,
		}},
		BillingMode: types.BillingModePayPerRequest,
	}); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestANilOptionSetsNothing(t *testing.T) {
	s := dynalocktest.NewServer(nil, func(o *dynalocktest.ServerOptions) { o.History = 1 }, nil)
	defer s.Close()
	db := createLocks(t, s)
	if _, err := db.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("locks")}); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("%d requests are remembered, want 1", n)
	}
}

func TestARefusedConditionCarriesTheItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		db := createLocks(t, s)
		update := &dynamodb.UpdateItemInput{
			TableName: aws.String("locks"), Key: map[string]types.AttributeValue{"key": str("a")},
			UpdateExpression:         aws.String("SET #o = :o, #t = if_not_exists(#t, :z) + :one"),
			ConditionExpression:      aws.String("attribute_not_exists(#o)"),
			ExpressionAttributeNames: map[string]string{"#o": "owner", "#t": "token"},
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":o": str("me"), ":z": &types.AttributeValueMemberN{Value: "10"}, ":one": &types.AttributeValueMemberN{Value: "1"},
			},
			ReturnValues:                        types.ReturnValueAllNew,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}
		out, err := db.UpdateItem(t.Context(), update)
		if err != nil {
			t.Fatal(err)
		}
		if n := out.Attributes["token"].(*types.AttributeValueMemberN).Value; n != "11" {
			t.Fatalf("token %s", n)
		}
		_, err = db.UpdateItem(t.Context(), update)
		var failed *types.ConditionalCheckFailedException
		if !errors.As(err, &failed) || failed.Item["owner"].(*types.AttributeValueMemberS).Value != "me" {
			t.Fatalf("%v", err)
		}
		if u := s.Usage(); u.WriteUnits != 2 || u.Requests["UpdateItem"] != 2 {
			t.Fatalf("%+v", u)
		}
	})
}

func TestTheServersTimeIsThatOfTheBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		createLocks(t, s)
		time.Sleep(90 * time.Minute)
		out, err := s.Client().DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("locks")})
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := awsmiddleware.GetServerTime(out.ResultMetadata); !ok || !at.Equal(time.Now().Truncate(time.Second)) {
			t.Errorf("the server says it is %v, the bubble %v", at, time.Now())
		}
		if age := time.Since(*out.Table.CreationDateTime); age != 90*time.Minute {
			t.Errorf("the table is %v old", age)
		}
	})
}

func TestOfManyWhoPutOneItemConditionallyOneWins(t *testing.T) {
	t.Parallel()
	s := dynalocktest.NewServer()
	defer s.Close()
	createLocks(t, s)
	const writers = 16
	var won atomic.Int32
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			db := s.Client()
			if err := count(t.Context(), db, "counter"); err != nil {
				t.Error(err)
			}
			_, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{
				TableName: aws.String("locks"), Item: item{"key": str("lock")},
				ConditionExpression:      aws.String("attribute_not_exists(#k)"),
				ExpressionAttributeNames: map[string]string{"#k": "key"},
			})
			if err == nil {
				won.Add(1)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 || counter(t, s, "counter") != strconv.Itoa(writers) {
		t.Errorf("%d won, and %s of %d additions were applied", won.Load(), counter(t, s, "counter"), writers)
	}
}

func TestRequestsTellInWhichOrderWritesWereApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hooked []string
		s := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) {
			o.OnRequest = func(r dynalocktest.Request) { hooked = append(hooked, r.Client+" "+r.Operation+" "+r.Key) }
		})
		defer s.Close()
		createLocks(t, s)
		s.Inject(dynalocktest.Fault{Kind: dynalocktest.SlowRequest, Client: "slow", Delay: time.Second})
		s.Inject(dynalocktest.Fault{Kind: dynalocktest.ErrorBefore, Client: "unlucky"})
		var group sync.WaitGroup
		for _, client := range []string{"slow", "fast", "unlucky"} {
			group.Go(func() { _ = count(t.Context(), s.ClientFor(client), "a") })
			synctest.Wait()
		}
		group.Wait()
		want := []string{"client CreateTable ", "fast UpdateItem a", "unlucky UpdateItem a", "slow UpdateItem a"}
		var got, values []string
		for _, r := range s.Requests() {
			got = append(got, r.Client+" "+r.Operation+" "+r.Key)
			for _, w := range r.Writes {
				values = append(values, fmt.Sprint(len(w.Old()))+" "+w.New()["n"].(*types.AttributeValueMemberN).Value)
			}
			if applied := r.Client != "unlucky"; r.Applied != applied || (r.Error == "") != applied || r.Table != "locks" {
				t.Errorf("%+v", r)
			}
		}
		if !slices.Equal(got, want) || !slices.Equal(hooked, want) {
			t.Errorf("requests %q, hook %q, want %q", got, hooked, want)
		}
		if want := []string{"0 1", "2 2"}; !slices.Equal(values, want) {
			t.Errorf("attributes before and counter after: %q, want %q", values, want)
		}
	})
}

func TestHistoryKeepsTheLastRequestsOnly(t *testing.T) {
	t.Parallel()
	s := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.History = 3 })
	defer s.Close()
	db := createLocks(t, s)
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		if err := count(t.Context(), db, key); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for _, r := range s.Requests() {
		keys = append(keys, r.Key)
	}
	if want := []string{"c", "d", "e"}; !slices.Equal(keys, want) {
		t.Errorf("remembers %v, want %v", keys, want)
	}
}

func TestItemsExpireWhenAskedToOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dynalocktest.NewServer()
		defer s.Close()
		db := createLocks(t, s)
		if _, err := db.UpdateTimeToLive(t.Context(), &dynamodb.UpdateTimeToLiveInput{
			TableName:               aws.String("locks"),
			TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String("ttl"), Enabled: aws.Bool(true)},
		}); err != nil {
			t.Fatal(err)
		}
		at := func(d time.Duration) types.AttributeValue {
			return num(strconv.FormatInt(time.Now().Add(d).Unix(), 10))
		}
		for key, ttl := range map[string]types.AttributeValue{
			"soon": at(time.Hour), "later": at(3 * time.Hour), "text": str("1"), "mistake": num("1"),
		} {
			if _, err := db.PutItem(t.Context(),
				&dynamodb.PutItemInput{TableName: aws.String("locks"), Item: item{"key": str(key), "ttl": ttl}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Hour)
		out, err := db.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("locks")})
		if err != nil || out.Count != 4 {
			t.Fatalf("%d items before, %v", out.Count, err)
		}
		if n := s.ExpireItems(); n != 1 {
			t.Errorf("%d items expired, want 1", n)
		}
		last := s.Requests()
		if r := last[len(last)-1]; r.Operation != "TimeToLive" || r.Key != "soon" || len(r.Writes) != 1 ||
			r.Writes[0].New() != nil {
			t.Errorf("noted as %+v", r)
		}
	})
}
