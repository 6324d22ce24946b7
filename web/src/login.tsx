/** Asks for the token of the API. */
export function Login(props: { wrong: boolean; logIn: (token: string | undefined) => void }) {
  return (
    <form
      class="panel login"
      onSubmit={(event) => {
        event.preventDefault();
        const given = new FormData(event.currentTarget).get('token');
        if (typeof given === 'string' && given.trim() !== '') props.logIn(given.trim());
      }}
    >
      <h2>A token is needed</h2>
      <p>
        It is in the file that the run was given with --api-token-file. It stays in this tab, and out of every
        address.
      </p>
      {props.wrong && (
        <p class="problem" role="alert">
          That is not the token.
        </p>
      )}
      <label>
        Token <input name="token" type="password" autocomplete="current-password" required />
      </label>
      <button type="submit">Log in</button>
    </form>
  );
}
